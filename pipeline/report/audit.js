const audit = document.getElementById("audit");
const place = "millrace-verdicts/" + audit.dataset.fingerprint + "/" + audit.dataset.sample;
const forms = [...document.querySelectorAll("section[data-row]")];
let verdicts = {};
try {
  verdicts = JSON.parse(localStorage.getItem(place)) || {};
} catch {
  // A browser that keeps nothing for local files: the verdicts are on the page until it is closed.
}

function show() {
  for (const form of forms) {
    for (const button of form.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(verdicts[form.dataset.row] === button.value));
    }
  }
  const done = forms.filter((form) => form.dataset.row in verdicts).length;
  document.getElementById("done").textContent = done + " of " + forms.length + " judged";
}

function judge(form, verdict) {
  if (verdicts[form.dataset.row] === verdict) {
    delete verdicts[form.dataset.row];
  } else {
    verdicts[form.dataset.row] = verdict;
  }
  try {
    localStorage.setItem(place, JSON.stringify(verdicts));
  } catch {
    // As above.
  }
  show();
}

for (const form of forms) {
  for (const button of form.querySelectorAll("button")) {
    button.addEventListener("click", () => judge(form, button.value));
  }
}

document.getElementById("next").addEventListener("click", () => {
  const open = forms.find((form) => !(form.dataset.row in verdicts));
  if (open) {
    open.scrollIntoView();
    open.querySelector("button").focus({ preventScroll: true });
  }
});

document.getElementById("download").addEventListener("click", () => {
  const content = { format: "millrace-verdicts/1", fingerprint: audit.dataset.fingerprint, verdicts: verdicts };
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }));
  link.download = "verdicts.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
});

show();
