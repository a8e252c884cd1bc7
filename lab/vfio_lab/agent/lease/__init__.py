"""What a machine that is no guest of ours needs besides the agent: somebody who puts it back."""
