"""The console's pages, a module for each noun. A page reads the caches and fills a template."""
