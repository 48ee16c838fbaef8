"""A hook of mkdocs: links to the README, which is not part of the site, lead to its first page."""

from typing import Any


def on_page_markdown(markdown: str, **_more: Any) -> str:
    """The page's text as the site has it."""
    return markdown.replace("(../README.md", "(index.md").replace("(../../README.md", "(../index.md")
