"""OpenPGP signatures over Git objects, and versions in ranges. (SSH and cosign are tried against real servers.)"""

import pysequoia
import pytest

from unjucks_api.reasons import Reason
from unjucks_runtime.courier.errors import CourierError
from unjucks_runtime.sources.signatures import verify_git
from unjucks_runtime.sources.versions import newest

PAYLOAD = b"tree 0\nauthor x\n\nmessage\n"


def test_openpgp() -> None:
    owner, stranger = pysequoia.Tsk.generate("owner"), pysequoia.Tsk.generate("stranger")
    signature = pysequoia.sign(owner.signer(), PAYLOAD, mode=pysequoia.SignatureMode.DETACHED)
    public = {key: str(tsk.extract_certificate()).encode() for key, tsk in (("owner", owner), ("stranger", stranger))}
    assert verify_git(PAYLOAD, signature, public, "commit x").startswith("OpenPGP certificate ")
    for payload, given, signers in (
        (PAYLOAD + b"more", signature, public),
        (PAYLOAD, signature, {"stranger": public["stranger"]}),
        (PAYLOAD, signature, {}),
        (PAYLOAD, signature, {"bad": b"-----BEGIN PGP PUBLIC KEY BLOCK-----\nnonsense\n"}),
        (PAYLOAD, signature[:-40] + b"\n-----END PGP SIGNATURE-----\n", public),
        (PAYLOAD, b"-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----", public),
        (PAYLOAD, b"-----BEGIN SIGNED MESSAGE-----", public),
        (PAYLOAD, None, public),
    ):
        with pytest.raises(CourierError) as caught:
            verify_git(payload, given, signers, "commit x")
        assert caught.value.reason is Reason.VERIFICATION_FAILED


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("*", "v2.10.0"),
        ("1.x", "1.10"),
        ("^1.2", "1.10"),
        ("~1.2.0", "v1.2.9"),
        (">=1.0.0, <1.3", "v1.2.9"),
        (">= 1.0.0 < 1.3.0", "v1.2.9"),
        ("<1.0.0 || >=2.0.0 <2.5", "v2.0.0"),
        (">=3.0.0-0", "v3.0.0-rc.1"),
        ("1.2.0 - 1.2.9", "v1.2.9"),
    ],
)
def test_the_newest_version_in_a_range(wanted: str, chosen: str) -> None:
    tags = ["v0.9.0", "v1.2.0", "v1.2.9", "1.10", "v2.0.0", "v2.10.0", "v3.0.0-rc.1", "nightly", "v1", "release-9.9.9"]
    assert newest(tags, wanted, "x") == chosen
