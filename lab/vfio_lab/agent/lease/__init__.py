"""The lease: runs on a remote machine beside the agent and puts the device back afterwards."""
