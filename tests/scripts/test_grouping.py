import logging
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scripts.errors import UserError
from scripts.grouping import RULES, group_classes

GAP_RULES = [rule for rule in RULES if rule != "manual"]
THREE = [rule for rule in GAP_RULES if rule not in ("gaps", "threshold")]  # rules that make three groups
sizes_of = st.lists(st.integers(0, 10**7), min_size=1, max_size=16).filter(any)
present_sizes = st.lists(st.integers(1, 10**7), min_size=1, max_size=16)

# Plausible volumes in ml of 13 abdominal organs, ids as in the Synapse set.
ABDOMEN = {
    1: 215, 2: 160, 3: 157, 4: 24, 5: 16, 6: 1500, 7: 380, 8: 95, 9: 82, 10: 33, 11: 78, 12: 3.4, 13: 4.1,
}  # fmt: skip


def group(sizes, rule="top2", **options):
    """A grouping, or a discarded example where the sequential rule is undefined."""
    try:
        return group_classes(sizes, rule, **options)
    except UserError as error:
        assume("'sequential'" not in str(error))
        raise


@given(sizes_of, st.sampled_from(GAP_RULES))
def test_every_class_is_in_exactly_one_non_empty_group(sizes, rule):
    grouping = group(sizes, rule)
    assert sorted(c for g in grouping.groups for c in g) == list(range(1, len(sizes) + 1))
    assert all(grouping.groups)
    assert len(grouping.names) == len(grouping.groups)
    if rule in THREE:
        assert len(grouping.groups) == min(3, len(sizes))
    assert len(grouping.groups) <= 5


@given(sizes_of, st.sampled_from(GAP_RULES))
def test_classes_are_ordered_by_size_within_and_across_groups(sizes, rule):
    ordered = [(-sizes[c - 1], c) for g in group(sizes, rule).groups for c in g]
    assert ordered == sorted(ordered)


@given(sizes_of, st.sampled_from(GAP_RULES), st.floats(1e-4, 1e4))
def test_scaling_all_sizes_changes_no_group(sizes, rule, factor):
    near = [s / t for s in sizes for t in sizes if t and abs(math.log(max(s, t) / t) - 1) < 1e-8]
    assume(rule != "gaps" or not near)
    assume(rule != "threshold" or all(abs(s - t * sum(sizes)) > 1e-6 for s in sizes for t in (0.01, 0.1)))
    scaled = group([s * factor for s in sizes], rule)
    assert scaled.groups == group(sizes, rule).groups
    assert scaled.gaps == pytest.approx(group(sizes, rule).gaps, abs=1e-9)


@given(st.data(), sizes_of, st.sampled_from(GAP_RULES))
def test_renumbering_the_classes_renumbers_the_groups(data, sizes, rule):
    new_id = data.draw(st.permutations(range(1, len(sizes) + 1)))
    renumbered = [0] * len(sizes)
    for old, new in enumerate(new_id):
        renumbered[new - 1] = sizes[old]
    before, after = group(sizes, rule), group(renumbered, rule)
    # Classes of equal size may stand for one another.
    assert [[sizes[c - 1] for c in g] for g in before.groups] == [[renumbered[c - 1] for c in g] for g in after.groups]
    if len(set(sizes)) == len(sizes):
        assert [[new_id[c - 1] for c in g] for g in before.groups] == [list(g) for g in after.groups]


@given(present_sizes)
def test_gaps_and_proportions_are_those_of_the_definition(sizes):
    grouping = group_classes(sizes)
    ordered = sorted((v / sum(sizes) for v in sizes), reverse=True)
    assert grouping.proportions == pytest.approx([v / sum(sizes) for v in sizes])
    assert grouping.gaps == pytest.approx([math.log(a / b) for a, b in pairwise(ordered)], abs=1e-9)


@given(st.lists(st.integers(1, 10**7), min_size=3, max_size=16))
def test_top2_cuts_at_the_two_largest_gaps(sizes):
    grouping = group_classes(sizes)
    first = len(grouping.groups[0])
    second = first + len(grouping.groups[1])
    cut = [grouping.gaps[first - 1], grouping.gaps[second - 1]]
    assert sorted(cut) == pytest.approx(sorted(grouping.gaps)[-2:], abs=1e-8)


@given(present_sizes)
def test_gaps_cuts_where_the_next_class_is_e_times_smaller_four_times_at_most(sizes):
    grouping = group_classes(sizes, "gaps")
    cuts = np.cumsum([len(g) for g in grouping.groups])[:-1]
    cut, kept = [grouping.gaps[c - 1] for c in cuts], [g for j, g in enumerate(grouping.gaps, 1) if j not in cuts]
    assert all(gap > 1 - 1e-8 for gap in cut)
    assert all(gap < 1 + 1e-8 for gap in kept) or len(cuts) == 4
    assert max(kept, default=0) <= min(cut, default=math.inf) + 1e-8


@given(st.lists(st.integers(1, 10**7), min_size=3, max_size=16))
def test_uniform_groups_differ_by_one_class_at_most(sizes):
    lengths = [len(g) for g in group_classes(sizes, "uniform").groups]
    assert lengths == [len(part) for part in np.array_split(np.arange(len(sizes)), 3)]


def test_top2_and_gaps_on_abdominal_organs_separate_the_liver_and_the_adrenals():
    grouping = group_classes(ABDOMEN)
    assert grouping.groups == ((6,), (7, 1, 2, 3, 8, 9, 11, 10, 4, 5), (13, 12))
    assert grouping.names == ("head", "medium", "tail")
    assert group_classes(ABDOMEN, "gaps").groups == grouping.groups


def test_top2_finds_head_medium_and_tail_as_measured_on_twenty_percent_of_synapse():
    # Smaller veins open the gap after the pancreas, larger adrenals close the one before them.
    grouping = group_classes(ABDOMEN | {10: 29, 4: 20, 5: 13, 12: 6, 13: 7})
    assert grouping.groups == ((6,), (7, 1, 2, 3, 8, 9, 11), (10, 4, 5, 13, 12))


@pytest.mark.parametrize(
    ("sizes", "groups", "names"),
    [
        ([100, 80, 60], ((1, 2, 3),), ("medium",)),  # as the three structures of a heart
        ([1000, 7], ((1,), (2,)), ("head", "tail")),
        ([1000, 300, 290, 20], ((1,), (2, 3), (4,)), ("head", "medium", "tail")),
        ([6000, 2000, 300, 200, 10], ((1,), (2,), (3, 4), (5,)), ("head", "large", "small", "tail")),
        # Six equal gaps: those between the largest classes.
        ([10**k for k in range(7)], ((7,), (6,), (5,), (4,), (3, 2, 1)), ("head", "large", "medium", "small", "tail")),
        ([10**k for k in range(5)], ((5,), (4,), (3,), (2,), (1,)), ("head", "large", "medium", "small", "tail")),
    ],
)
def test_gaps_makes_as_many_groups_as_the_sizes_ask_for(sizes, groups, names):
    grouping = group_classes(sizes, "gaps")
    assert (grouping.groups, grouping.names) == (groups, names)


def test_absent_classes_are_in_the_last_of_the_groups_by_gaps():
    assert group_classes([0, 100, 90, 1, 0], "gaps").groups == ((2, 3), (4, 1, 5))
    assert group_classes([0, 5], "gaps").groups == ((2, 1),)


def test_sequential_degenerates_where_the_largest_gap_is_before_the_adrenals():
    sizes = ABDOMEN | {6: 1000, 7: 400}
    assert group_classes(sizes, "sequential").groups[1:] == ((13,), (12,))
    assert group_classes(sizes, "top2").groups[0] == (6,)


def test_sequential_takes_its_second_cut_after_the_largest_gap():
    assert group_classes([400, 100, 2, 1], "sequential").groups == ((1, 2), (3,), (4,))
    assert group_classes([1000, 10, 9, 3, 2], "sequential").groups == ((1,), (2, 3), (4, 5))


@pytest.mark.parametrize("sizes", [[9, 8, 1], [100, 90, 80, 1]])
def test_sequential_without_a_gap_after_the_largest_names_the_other_rules(sizes):
    with pytest.raises(UserError, match=r"'sequential'.*top2, gaps, uniform, threshold, manual"):
        group_classes(sizes, "sequential")


def test_sequential_names_the_gap_that_none_follows():
    with pytest.raises(UserError, match=r"largest gap \(4\.382\) to be the last"):  # log 80
        group_classes([100, 90, 80, 1], "sequential")


def test_threshold_groups_by_share():
    grouping = group_classes([60, 30, 9, 0.5, 0.5], "threshold")
    assert grouping.groups == ((1, 2), (3,), (4, 5))
    assert group_classes([60, 30, 9, 0.5, 0.5], "threshold", thresholds=(0.2, 0.5)).groups == ((1,), (2,), (3, 4, 5))


def test_threshold_leaves_out_an_empty_group(caplog):
    grouping = group_classes([50, 40, 10, 0.5], "threshold")
    assert (grouping.groups, grouping.names) == (((1, 2), (3,), (4,)), ("head", "medium", "tail"))
    assert not caplog.records
    grouping = group_classes([50, 49.5, 0.5], "threshold")
    assert (grouping.groups, grouping.names) == (((1, 2), (3,)), ("head", "tail"))
    assert "no class for: medium" in caplog.text
    assert group_classes([40, 30, 30], "threshold").names == ("medium",)


def test_threshold_names_the_groups_that_are_empty(caplog):
    group_classes([40, 30, 30], "threshold")
    assert caplog.messages == ["rule threshold (0.01, 0.1) leaves no class for: medium, tail"]


def test_share_of_a_threshold_itself_is_medium():
    assert group_classes([50, 25, 25], "threshold", thresholds=(0.25, 0.5)).groups == ((1, 2, 3),)


def test_class_without_voxels_is_in_the_tail_whatever_the_thresholds():
    grouping = group_classes([60, 40, 0], "threshold", thresholds=(0, 1))
    assert grouping.groups == ((1, 2), (3,))


@pytest.mark.parametrize("thresholds", [(0.1, 0.01), (-0.1, 0.5), (0.1, 1.5), (0.1, 0.1)])
def test_thresholds_out_of_order_are_refused(thresholds):
    with pytest.raises(UserError, match="expected 0 <= tail < head <= 1"):
        group_classes([3, 2, 1], "threshold", thresholds=thresholds)


@pytest.mark.parametrize("rule", [*THREE, "threshold"])
def test_fewer_than_three_classes_are_one_group_each(rule):
    assert group_classes([5], rule).groups == ((1,),)
    assert group_classes([5], rule).names == ("medium",)
    assert group_classes([5, 7], rule).groups == ((2,), (1,))
    assert group_classes([5, 7], rule).names == ("head", "tail")


@pytest.mark.parametrize("sizes", [[3, 2, 1], [100, 99, 1], [100, 2, 1], [5, 5, 5]])
def test_three_classes_are_one_group_each(sizes):
    assert group_classes(sizes).groups == ((1,), (2,), (3,))


def test_ties_of_classes_are_broken_by_id_and_ties_of_gaps_by_even_groups():
    assert group_classes([7] * 6).groups == ((1, 2), (3, 4), (5, 6))
    assert group_classes([1, 2, 4, 8, 16, 32]).groups == ((6, 5), (4, 3), (2, 1))
    # The largest gap is unique, the second is tied between 2|3 and 3|4: even groups decide.
    assert group_classes([1000, 8, 4, 2]).groups == ((1,), (2,), (3, 4))


@pytest.mark.parametrize("unit", [0.1, 0.7, 7, 100])
def test_gaps_that_differ_by_rounding_only_are_ties(unit):
    assert group_classes([unit * size for size in (1, 2, 4, 8, 16, 32)]).groups == ((6, 5), (4, 3), (2, 1))


def test_absent_classes_go_to_the_tail_with_a_logged_warning(caplog):
    with caplog.at_level(logging.WARNING):
        grouping = group_classes([0, 100, 10, 9, 1, 0])
    assert grouping.groups == ((2,), (3, 4), (5, 1, 6))
    assert len(grouping.gaps) == 3
    assert [text.partition(":")[0] for text in caplog.messages] == ["no labelled voxel of class 1, 6"]


@pytest.mark.parametrize("rule", ["top2", "sequential", "uniform"])
def test_absent_classes_fill_the_groups_where_too_few_classes_have_voxels(rule):
    assert group_classes([0, 5, 0, 7], rule).groups == ((4,), (2,), (1, 3))
    assert group_classes([0, 5, 0, 0], rule).groups == ((2,), (1,), (3, 4))
    assert group_classes([0, 5], rule).groups == ((2,), (1,))


def test_uniform_counts_only_the_classes_that_have_voxels():
    assert group_classes([6, 5, 4, 0, 0, 0], "uniform").groups == ((1,), (2,), (3, 4, 5, 6))


def test_manual_groups_are_taken_as_given_and_sorted_by_size_within():
    grouping = group_classes([1, 2, 3, 4], "manual", manual=[[1, 2], [3], [4]])
    assert grouping.groups == ((2, 1), (3,), (4,))
    assert group_classes([1, 2, 3], "manual", manual=[[1, 2, 3]]).names == ("medium",)
    five = group_classes([5, 4, 3, 2, 1], "manual", manual=[[c] for c in range(1, 6)])
    assert five.names == ("head", "large", "medium", "small", "tail")


@pytest.mark.parametrize(
    "manual", [[[1, 2]], [[1, 2], [2, 3]], [[1, 2], [3, 4]], [[1, 2, 3], []], [[0, 1], [2, 3]], [[1], [2], [3], []]]
)
def test_manual_groups_must_partition_the_classes(manual):
    with pytest.raises(UserError, match=r"each class id of 1\.\.3 exactly once, found") as caught:
        group_classes([1, 2, 3], "manual", manual=manual)
    assert str(caught.value).endswith(f"found {manual}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2, 3], "top3"), "expected one of top2, .* found 'top3'"),
        (([1, 2, 3], "manual"), "found no groups with rule 'manual'"),
        (([1] * 6, "manual", [[c] for c in range(1, 7)]), "expected one to five non-empty groups"),
        (([1, 2, 3], "top2", [[1, 2, 3]]), "found manual groups with rule 'top2'"),
        (([0, 0, 0],), "^class sizes: expected a labelled voxel of at least one class, found none; check the labels$"),
        (([],), "at least one class, found none"),
        (([1, -2],), "at least 0"),
        (([1, math.nan],), "finite"),
        (({1: 5, 3: 5},), r"expected the class ids 1\.\.2, found \[1, 3\]"),
    ],
)
def test_wrong_arguments_are_user_errors(arguments, message):
    with pytest.raises(UserError, match=message):
        group_classes(*arguments)


def test_description_names_every_class_with_share_gap_and_group():
    lines = group_classes([75, 20, 5, 0]).describe({1: "liver", 2: "spleen", 3: "aorta"}).splitlines()
    assert "rule top2" in lines[0]
    assert lines[2].split() == ["1", "liver", "75.0000%", "1.322", "head"]
    assert lines[3].split() == ["2", "spleen", "20.0000%", "1.386", "medium"]
    assert lines[4].split() == ["3", "aorta", "5.0000%", "-", "tail"]
    assert lines[5].split() == ["4", "0.0000%", "-", "tail"]
    assert lines[-1].strip() == "tail: 3 aorta, 4"


def test_description_is_a_table_whose_columns_lie_below_their_titles():
    titles, first, second = group_classes([75, 25]).describe().splitlines()[1:4]
    assert titles.split() == ["class", "share", "log-gap", "group"]
    for title, cell in (("class", "1"), ("group", "head")):
        assert first.index(cell) == titles.index(title)
    for title, cell in (("share", "75.0000%"), ("log-gap", "1.099")):
        assert first.index(cell) + len(cell) == titles.index(title) + len(title)
    assert second.index("tail") == titles.index("group")
