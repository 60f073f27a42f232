"""An example of a vadpipe plug-in; see docs/plugins.md of vadpipe."""
