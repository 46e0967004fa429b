"""Results as a page of HTML: ``report.html`` of a test, and ``vsr compare``."""
