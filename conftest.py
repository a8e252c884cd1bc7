"""The project's pytest plugins."""

pytest_plugins = [
    "fixtures.options",
    "fixtures.guests",
    "fixtures.claims",
    "fixtures.evidence",
    "fixtures.coverage",
    "fixtures.results",
    "fixtures.live",
    "fixtures.real",
    "fixtures.lent",
    "fixtures.machines",
    "fixtures.visits",
    "fixtures.sriov",
    "fixtures.devices",
    "fixtures.groups",
    "fixtures.dma",
    "fixtures.noiommu",
    "fixtures.removal",
    "fixtures.hot_reset",
    "fixtures.clients",
    "fixtures.tutorial",
]
