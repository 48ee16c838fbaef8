"""What the tests share: servers, poolers, a raw-protocol client, a fault proxy, ports."""
