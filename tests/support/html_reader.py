"""Pages read back as a browser's parser does, and the tags that they may hold."""

from __future__ import annotations

from html.parser import HTMLParser

ALLOWED = {
    "html", "head", "meta", "title", "link", "style", "body", "a", "header", "p", "span", "nav", "main", "section",
    "h1", "h2", "h3", "article", "strong", "b", "i", "em", "small", "table", "thead", "tbody", "tr", "th", "td",
    "figure", "figcaption", "div", "button", "label", "select", "option", "ul", "ol", "li", "img", "dl", "dt", "dd",
    "pre", "code", "footer", "dialog", "script", "svg", "g", "path", "rect", "circle", "line", "text", "tspan",
}  # fmt: skip


class Reader(HTMLParser):
    """The tags of a page with their attributes, its text, and what its scripts and styles hold."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.text: list[str] = []
        self.at = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.at = tag
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self.at = ""

    def handle_data(self, data: str) -> None:
        if self.at in self.inside:
            self.inside[self.at][-1] += data
        else:
            self.text.append(data)
