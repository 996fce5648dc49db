"""What tests look at in an HTML page."""

from collections import Counter
from html.parser import HTMLParser


class Tags(HTMLParser):
    """A page's tags, counted, and the names of their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: dict[str, set[str]] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count a tag."""
        self.tags[tag] += 1
        self.attributes.setdefault(tag, set()).update(name for name, _ in attrs)
