"""The task engine: settings, planning, span tasks, clusters, the journal."""
