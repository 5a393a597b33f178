"""Documents of each kind that the page shows in its own way."""

import io

from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas


def pdf(*pages: str) -> bytes:
    """Return a PDF; each line of a page is one there."""
    written = io.BytesIO()
    canvas = Canvas(written, pagesize=A4)
    for text in pages:
        lines = canvas.beginText(72, 760)
        lines.setFont("Helvetica", 14)
        lines.textLines(text)
        canvas.drawText(lines)
        canvas.showPage()
    canvas.save()
    return written.getvalue()


FERRY = """# The ferry

## Times

The ferry to Utsira leaves at seven in the morning. It comes back at **five** in the afternoon.

## Prices

| Ticket | Crowns |
| --- | --- |
| Adult | 90 |
| Child | 45 |

Bicycles travel free of charge on the ferry.
"""
LIGHTHOUSE = pdf(
    "The lighthouse\nA guide for visitors of the island.",
    "The tower\nThe lighthouse was built in 1859.\nIts lamp is seen from twenty miles away.",
    "Getting there\nA path leads from the harbour to the tower.",
)
LIBRARY = """<!doctype html><html lang="en"><head><title>The library</title></head><body>
<h1>The library</h1>
<p>The library opens at nine o'clock on weekdays. <em>Reading glasses</em> are lent at the desk.</p>
<ul><li>Novels on the first floor</li><li>Maps on the second floor</li></ul>
</body></html>"""
HARBOUR = "The harbour\n\nThe harbour master is Ingrid Solberg. The harbour closes at ten in the evening.\n"

HANDBOOK: dict[str, str | bytes] = {
    "ferry.md": FERRY,
    "lighthouse.pdf": LIGHTHOUSE,
    "library.html": LIBRARY,
    "harbour.txt": HARBOUR,
}
