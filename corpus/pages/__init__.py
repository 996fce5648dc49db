"""Self-contained HTML pages: the layout that all reports share, its tables and charts, and how a page is rendered."""
