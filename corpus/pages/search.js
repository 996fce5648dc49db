
for (const field of document.querySelectorAll("input[data-filters]")) {
  const rows = document.querySelectorAll("#" + field.dataset.filters + " > tbody");
  const shown = document.getElementById(field.dataset.filters + "-shown");
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      count += !row.hidden;
    }
    shown.textContent = words.length ? count + " of " + rows.length : "";
  });
}
