"""What runs, and in what order: stories of one flow each, and the command line on top."""
