"""The hardware of a guest as values: PCI tree, groups, device models, topologies."""
