"""One self-contained HTML page about a compiled program: ``page.report_page``."""
