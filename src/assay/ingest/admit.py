"""May this batch come from this source? Its place and its signature, judged against the rule of ``ingest.sources``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.signer import SSlibKey

from assay.config.ingest import IngestConfig, SourceConfig, SourceRule, Trust
from assay.errors import Refused, UnfitInput
from assay.ingest.fetch import Fetched, plain_uri
from assay.keyring import KeyEntry, Keyring
from assay.signing import unseal

__all__ = ["place_of", "require_place", "require_rule", "require_trust", "ruled", "uploader"]


def require_rule(source: SourceConfig, rules: dict[str, SourceRule]) -> SourceRule:
    """The rule of a source.

    Raises:
        Refused: no rule names it.
    """
    if source.name not in rules:
        raise Refused(f"source {source.name}", "no rule", f"one of the sources {', '.join(sorted(rules))}")
    return rules[source.name]


def require_trust(source: SourceConfig, rule: SourceRule) -> Trust:
    """The trust of a batch: that of its source, or less where the batch says so.

    Raises:
        Refused: the batch claims more.
    """
    if source.trust == "trusted" and rule.trust != "trusted":
        raise Refused(f"source {source.name}", "a batch marked trusted", f"trust {rule.trust}, as its rule says")
    return "untrusted" if source.trust == "untrusted" else rule.trust


def ruled(source: SourceConfig, config: IngestConfig) -> SourceConfig:
    """The batch with the trust that counts; one that no rule names, or that claims too much, stays as it is.

    So that a step, or a verb, can see beforehand whether any source is trusted; `require_trust` rejects the others.
    """
    rule = config.sources.get(source.name)
    if rule is None or (source.trust == "trusted" and rule.trust != "trusted"):
        return source
    return source.model_copy(update={"trust": require_trust(source, rule)})


def require_place(source: SourceConfig, rule: SourceRule) -> None:
    """Refuse files that do not lie below one of the source's prefixes.

    Raises:
        Refused: names the place; nothing of it was opened.
    """
    for uri in filter(None, (source.uri, source.labels_uri)):
        place = place_of(uri)
        if not any(_below(place, place_of(prefix)) for prefix in rule.prefixes):
            raise Refused(f"source {source.name}", uri, f"a place below {', '.join(rule.prefixes)}")


def place_of(uri: str) -> tuple[str, ...]:
    """A URI as the segments that places are compared by: the scheme, the bucket, then folders and name.

    Links of the file system are followed first; keys of an object store are taken as they are.

    Raises:
        Refused: ``.``, ``..``, an empty segment or a sign that no honest key needs.
        UnfitInput: a URI of another kind.
    """
    parts = urlsplit(plain_uri(uri))
    if parts.scheme == "s3":
        if not parts.netloc or parts.query or parts.fragment or any(ord(sign) < 32 or sign == "\\" for sign in uri):
            raise Refused(f"source {uri}", "no plain s3:// URI", "s3://bucket/key")
        segments = parts.path.removeprefix("/").removesuffix("/").split("/") if parts.path.strip("/") else []
        if any(segment in ("", ".", "..") for segment in segments):
            raise Refused(f"source {uri}", "an empty, . or .. segment", "a key that says where it lies")
        return ("s3", parts.netloc, *segments)
    if "://" in uri and parts.scheme != "file":
        raise UnfitInput(f"source {uri}", f"{parts.scheme}://", "a path, file:// or s3://")
    path = Path(unquote(parts.path) if "://" in uri else uri)
    if ".." in path.parts or "\0" in str(path):
        raise Refused(f"source {uri}", "a .. segment", "a path that says where it lies")
    return ("file", *path.resolve().parts)


def uploader(batch: Fetched, rule: SourceRule, keyring: Keyring, now: datetime | None = None) -> str:
    """The id of the key that signed a batch, or an empty text for an unsigned one where that is allowed.

    Args:
        batch: with its envelope.
        rule: of the source, with its keys.
        keyring: of the workspace: resolves key ids, and says which payloads are revoked.
        now: the instant at which keys must be valid; by default the clock's.

    Raises:
        Refused: no signature, one that does not hold, or one about other bytes or another batch.
        UnfitInput: a key of the rule that cannot be read.
    """
    where = f"batch {batch.delivery.name}"
    if batch.envelope is None:
        if rule.require_signature:
            raise Refused(where, "no signature", f"{batch.source.uri.rstrip('/')}.dsse.json", "See assay sign-batch.")
        return ""
    if not rule.keys:
        return ""
    ring = replace(keyring, keys=tuple(_entries(rule.keys, keyring, batch.source.name)))
    opened = unseal(batch.envelope, ring, kind="batch", role="uploader", now=now or datetime.now(UTC), where=where)
    said = {name: opened.predicate.get(name) for name in ("source", "batch", "files")}
    need = batch.document()
    for name, value in said.items():
        if value != need[name]:
            raise Refused(f"{where}: signature", f"one for {name} {str(value)[:200]!r}", str(need[name])[:200])
    return opened.keyids[0]


def _below(place: tuple[str, ...], prefix: tuple[str, ...]) -> bool:
    return place[: len(prefix)] == prefix


def _entries(keys: Iterable[str], keyring: Keyring, source: str) -> Iterable[KeyEntry]:
    """The keys of a rule as keyring entries of role uploader, each once."""
    known = {entry.keyid: entry for entry in keyring.for_role("uploader")}
    found: dict[str, KeyEntry] = {}
    for text in keys:
        entry = known.get(text.strip()) or _from_pem(text, source)
        found[entry.keyid] = known.get(entry.keyid, entry)
    return found.values()


def _from_pem(text: str, source: str) -> KeyEntry:
    try:
        key = SSlibKey.from_crypto(load_pem_public_key(text.encode()))
    except Exception as error:  # parsers of keys raise their own kinds
        raise UnfitInput(
            f"key of source {source}",
            repr(text[:40]),
            "a PEM public key, or the id of an uploader's key in the keyring",
        ) from error
    return KeyEntry(keyid=key.keyid, public=key.to_dict(), roles=("uploader",))
