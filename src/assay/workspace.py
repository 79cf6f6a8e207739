"""Where a run keeps its ledger, tracking store and keys: folders under ``.assay/`` on a laptop, services on a cluster.

Read from the environment, so that a step in a pod and a verb on a laptop find it the same way:

    ASSAY_HOME            folder of everything local                 .assay
    ASSAY_LEDGER          the ledger                                 $ASSAY_HOME/ledger
    ASSAY_KEYS            keyring of public keys                     $ASSAY_HOME/keys/keys.json
    ASSAY_CUSTODIAN_KEY   private key that signs quarantines         $ASSAY_HOME/keys/custodian.pem
    ASSAY_EVALUATOR_KEY   private key that signs evidence, decisions $ASSAY_HOME/keys/evaluator.pem
    ASSAY_PROMOTER_KEY    private key that signs promotions          $ASSAY_HOME/keys/promoter.pem
                          (several, with commas between, where the keyring asks for more than one signature)
    ASSAY_APPROVER_KEY    private key of a person who approves   $ASSAY_HOME/keys/approver.pem
    ASSAY_RUN_ID          id of the pipeline run                     given by the pipeline
    MLFLOW_TRACKING_URI   MLflow                                     sqlite under $ASSAY_HOME
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from securesystemslib.signer import Signer

from assay.data.files import write_file
from assay.errors import UnfitInput
from assay.keyring import Keyring, Role, load_signer, make_key, public_entry
from assay.ledger import Ledger, open_ledger

LOCAL_ROLES: tuple[Role, ...] = ("custodian", "evaluator", "promoter")
KEYED: tuple[Role, ...] = (*LOCAL_ROLES, "approver")

__all__ = ["LOCAL_ROLES", "Workspace"]


@dataclass(frozen=True)
class Workspace:
    """The places of one installation; frozen text, opened when asked."""

    home: Path
    ledger_uri: str
    keyring_path: Path
    signer_uris: dict[Role, str]
    tracking_uri: str

    @classmethod
    def from_env(cls) -> Workspace:
        """The workspace the environment names; creates nothing."""
        home = Path(os.environ.get("ASSAY_HOME", ".assay")).absolute()
        return cls(
            home=home,
            ledger_uri=os.environ.get("ASSAY_LEDGER", str(home / "ledger")),
            keyring_path=Path(os.environ.get("ASSAY_KEYS", str(home / "keys" / "keys.json"))),
            signer_uris={
                role: os.environ.get(f"ASSAY_{role.upper()}_KEY", str(home / "keys" / f"{role}.pem")) for role in KEYED
            },
            tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}"),
        )

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger, opened once."""
        return open_ledger(self.ledger_uri)

    def with_ledger(self) -> Workspace:
        """The workspace itself when its ledger is there: in another folder, an empty answer would be a wrong one.

        Raises:
            UnfitInput: a ledger on this machine that is not there.
        """
        root = getattr(self.ledger, "root", None)
        if root is not None and not root.is_dir():
            fix = "Run it where .assay lies, or set ASSAY_HOME or ASSAY_LEDGER."
            raise UnfitInput(f"ledger {root}", "no such folder", "one that a run has written to", fix)
        return self

    @property
    def keyring(self) -> Keyring:
        """The public keys."""
        return Keyring.load(self.keyring_path)

    def initialise(self, roles: tuple[Role, ...] = LOCAL_ROLES) -> list[str]:
        """Make what a laptop needs: keys of a custodian, an evaluator and a promoter, and the keyring that lists them.

        What is there stays; a key that a setting places elsewhere is left to whoever placed it. Safe to call twice, and
        from two processes at once: each name is won by one of them, and both list the keys that won.

        Args:
            roles: for each of which to make a key.

        Returns:
            The paths that this call created.
        """
        created = []
        ignore = self.home / ".gitignore"
        if not ignore.exists():
            write_file(ignore, b"*\n")
            created.append(str(ignore))
        entries = list(self.keyring.keys)
        for role in roles:
            path = self.home / "keys" / f"{role}.pem"
            if self.signer_uris.get(role) != str(path):
                continue
            created += [str(path)] if _make_key_once(path, role) else []
            made = public_entry(load_signer(str(path)), (role,))
            entries += [made] if made.keyid not in {entry.keyid for entry in entries} else []
        if tuple(entries) != self.keyring.keys:
            created += [] if self.keyring_path.exists() else [str(self.keyring_path)]
            replace(self.keyring, keys=tuple(entries)).save(self.keyring_path)
        return created

    def signers(self, role: Role) -> list[Signer]:
        """The signers of a role, or none when no key is there (what they would sign is then written unsigned).

        Raises:
            UnfitInput: a key that is named but cannot be used.
        """
        uri = self.signer_uris.get(role)
        if uri is None:
            raise UnfitInput(f"key of role {role}", "no setting", f"ASSAY_{role.upper()}_KEY")
        if ":" not in uri and "," not in uri and not Path(uri).exists():
            return []
        return [load_signer(part.strip(), self.keyring) for part in uri.split(",")]

    def environment(self) -> dict[str, str]:
        """The variables that make another process find this workspace."""
        return {
            "ASSAY_HOME": str(self.home),
            "ASSAY_LEDGER": self.ledger_uri,
            "ASSAY_KEYS": str(self.keyring_path),
            **{f"ASSAY_{role.upper()}_KEY": self.signer_uris[role] for role in LOCAL_ROLES if role in self.signer_uris},
            "MLFLOW_TRACKING_URI": self.tracking_uri,
        }


def _make_key_once(path: Path, role: Role) -> bool:
    """Make a key unless there is one; False when there was, or when another process won the name."""
    if path.exists():
        return False
    try:
        make_key(path, (role,))
    except UnfitInput:
        if path.exists():
            return False
        raise
    return True
