"""The commands of ``kniv-serve`` that look after a repository, one a file."""
