"""The shell: each module one loop with one job."""
