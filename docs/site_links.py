"""For the site: links that leave docs/ lead to the repository, or are text where there is none.

In the repository they are relative and work as they stand.
"""

import posixpath
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.pages import Page

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(((?:\.\./)+[^)\s]+)\)")


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, **_: object) -> str:
    """Called by MkDocs with the text of each page."""
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri))

    def resolved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[2]))
        if target.startswith("docs/"):
            return link[0]
        if config.repo_url:
            return f"[{link[1]}]({config.repo_url.rstrip('/')}/blob/main/{target})"
        return link[1]

    return LINK.sub(resolved, markdown)
