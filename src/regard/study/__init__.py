"""Questions put to models and corpora, carried out: from files and folders to tables and pages."""
