"""What people see of a build: the dry run, the summary, the report's page and tables, and the dataset card."""
