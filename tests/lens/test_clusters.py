"""Maps are as good as another library's, and labels are those of the thresholds."""

import numpy as np
import pytest

from regard.lens import clusters
from regard.lens.clusters import behaviours, scale


def distances(random, points, dimensions):
    places = random.normal(size=(points, dimensions))
    return np.linalg.norm(places[:, None] - places, axis=-1)


def test_places_in_the_plane_are_found_again(monkeypatch):
    monkeypatch.setattr(clusters, "SETTLED", 0)
    given = distances(np.random.default_rng(0), 20, 2)
    found = scale(given, starts=10)
    assert found.stress < 1e-6 and found.stress_1 < 1e-4
    np.testing.assert_allclose(np.linalg.norm(found.places[:, None] - found.places, axis=-1), given, atol=1e-3)
    np.testing.assert_allclose(found.places.mean(0), 0, atol=1e-12)


@pytest.mark.parametrize(("points", "dimensions"), [(30, 5), (12, 3)])
def test_the_stress_is_that_of_another_library(points, dimensions):
    from sklearn.manifold import MDS, smacof

    given = distances(np.random.default_rng(1), points, dimensions)
    found = scale(given, starts=20)
    other = MDS(
        n_components=2, metric="precomputed", n_init=20, eps=1e-10, max_iter=1000, random_state=0, init="random",
        normalized_stress=False,
    ).fit(given)  # fmt: skip
    assert found.stress == pytest.approx(other.stress_, rel=0.01)
    # Where we have come to rest, the other library finds nothing to mend, and measures the same.
    _, stress = smacof(given, init=found.places, n_init=1, max_iter=50, normalized_stress=False)
    assert stress == pytest.approx(found.stress, rel=1e-4)
    _, stress_1 = smacof(given, init=found.places, n_init=1, max_iter=1, normalized_stress=True)
    assert found.stress_1 == pytest.approx(stress_1, rel=1e-3)


def test_more_starts_never_fit_worse_and_a_seed_decides_all():
    given = distances(np.random.default_rng(2), 25, 6)
    stress = [scale(given, starts=n, seed=3).stress for n in (1, 3, 9)]
    assert stress == sorted(stress, reverse=True)
    assert np.array_equal(scale(given, seed=4).places, scale(given, seed=4).places)
    assert not np.array_equal(scale(given, seed=4).places, scale(given, seed=5).places)


def test_points_in_one_place_are_no_trouble():
    given = np.zeros((4, 4))
    assert scale(given).stress == pytest.approx(0, abs=1e-6)
    given[:2, 2:] = given[2:, :2] = 1
    found = scale(given)
    assert np.isfinite(found.places).all() and found.stress < 1e-6


def test_labels_follow_the_thresholds():
    names = ("entropy", "entropy_share", "to_sep", "to_cls", "to_stop", "offset_+1", "offset_-1")
    means = {name: np.zeros((2, 4)) for name in names}
    for name, place in zip(names[2:], [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)], strict=True):
        means[name][place] = 0.601
    means["entropy"][1, 1:] = 3.79, 3.81, 3.0
    means["entropy_share"][1, 1:] = 0.79, 0.77, 0.9
    means["offset_+1"][1, 3] = 0.5
    assert behaviours(means).tolist() == [["[SEP]", "[CLS]", "punctuation", "next"], ["previous", "", "broad", ""]]
    assert behaviours(means, relative=True)[1].tolist() == ["previous", "broad", "", "broad"]
    means["to_sep"][1, 3] = 0.7  # more than one holds: what it looks at counts before how widely
    assert behaviours(means, relative=True)[1, 3] == "[SEP]"
