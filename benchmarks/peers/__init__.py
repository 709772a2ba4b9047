"""Other servers for the same models, each tuned as its own pages advise. The scripts run in an environment of their own
(`make peers`) and import nothing of ours."""
