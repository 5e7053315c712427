"""Names of datasets on the page: networks are kept apart."""

import fake_runs

from jaxinv.report import datasets
from jaxinv.report.results import sort
from jaxinv.store.record import typed


def record(network=None, target="t", **values):
    told = {} if network is None else {"network": network}
    fields = fake_runs.attack_fields(target={"fingerprint": target}, **told, **values)
    return typed(fields)


LENET = {"name": "lenet5", "fingerprint": "a"}
OWN = {"name": "somewhere/net.py:build", "fingerprint": "b"}


def test_one_network_is_named_where_it_is_not_the_usual_one():
    assert datasets.names([record(LENET), record(LENET), record()]) == ["mnist"] * 3
    assert datasets.names([record(OWN), record(OWN)]) == ["mnist, net.py:build"] * 2


def test_several_networks_of_a_dataset_are_told_apart():
    older, of_another = record(target="t"), record(OWN, target="u")
    names = datasets.names([record(LENET), older, of_another, record(OWN, dataset="photos")])
    assert names == [
        "mnist, lenet5",
        "mnist, lenet5",
        "mnist, net.py:build",
        "photos, net.py:build",
    ]
    found = sort([record(LENET), of_another])
    assert {each.dataset for each in found.attacks} == {"mnist, lenet5", "mnist, net.py:build"}


def test_networks_of_one_name_are_told_apart_by_their_fingerprints():
    other = {**OWN, "fingerprint": "c"}
    names = datasets.names([record(OWN, target="u"), record(other, target="v")])
    assert names == ["mnist, net.py:build b", "mnist, net.py:build c"]


def test_data_of_one_name_and_other_content_are_told_apart():
    first, other = record(LENET), record(LENET, data_fingerprint="fedcba987654")
    names = datasets.names([first, other, record(LENET, dataset="photos")])
    assert names == [f"mnist {first.data_fingerprint}", "mnist fedcba987654", "photos"]
    assert len({each.dataset for each in sort([first, other]).attacks}) == 2
