"""Names of datasets on the page, told apart by their content and by the network. No JAX."""

from collections.abc import Sequence

from jaxinv.store.record import Record

_PAPERS = ("lenet5", "cifar_cnn")  # of which older records are, that name no network
_USUAL = (*_PAPERS, "mlp", "conv1d", "")  # what data have unless another network is asked for

_Key = tuple[str, str | None]


def names(records: Sequence[Record]) -> list[str]:
    """Returns a name for each record: equal for records of one dataset and one network.

    It is the dataset's, with a fingerprint where the data of this name were others at times,
    followed by the network's where records of the dataset have several, or one that is not usual.
    """
    keys = _keys(records, _titles(records))
    networks: dict[str, dict[str | None, str]] = {}
    for (dataset, network), record in zip(keys, records, strict=True):
        told = networks.setdefault(dataset, {})
        told[network] = told.get(network) or (record.network.title if record.network else "")
    return [_name(*key, networks[key[0]]) for key in keys]


def _titles(records: Sequence[Record]) -> list[str]:
    """Returns the name of each record's data; older records do not tell their fingerprint."""
    seen: dict[str, set[str]] = {}
    for record in records:
        seen.setdefault(record.dataset, set()).update(filter(None, [record.data_fingerprint]))
    return [
        f"{record.dataset} {record.data_fingerprint}"
        if record.data_fingerprint and len(seen[record.dataset]) > 1
        else record.dataset
        for record in records
    ]


def _keys(records: Sequence[Record], titles: Sequence[str]) -> list[_Key]:
    """Returns dataset and fingerprint of the network; of older records, that of the same target."""
    by_target: dict[_Key, str | None] = {}
    papers: dict[str, str | None] = {}
    for title, record in zip(titles, records, strict=True):
        if record.network is not None:
            by_target[title, _target(record)] = record.network.fingerprint
            if record.network.name in _PAPERS:
                papers[title] = record.network.fingerprint
    found = []
    for title, record in zip(titles, records, strict=True):
        known = by_target.get((title, _target(record))) or papers.get(title)
        found.append((title, record.network.fingerprint if record.network else known))
    return found


def _target(record: Record) -> str | None:
    return record.target.fingerprint if record.target else None


def _name(dataset: str, network: str | None, networks: dict[str | None, str]) -> str:
    if len(networks) == 1:
        return dataset if networks[network] in _USUAL else f"{dataset}, {networks[network]}"
    own = networks[network] or "the paper's network"
    alike = sum(name == networks[network] for name in networks.values())
    return f"{dataset}, {own}" + (f" {network}" if alike > 1 and network else "")
