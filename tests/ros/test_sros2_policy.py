"""The SROS2 policies allow exactly what the node does: compared with the graph as other nodes see it.

The form is that of policy version 0.2.0, whose XML schema the package sros2 publishes: enclaves of profiles, each
with topics to publish or subscribe, services to reply or request, and qualifiers ALLOW or DENY.
"""

import copy
import gc
import time
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import rclpy
from bench import PLAIN, TRANSITIONS, Spinning
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.context import Context
from rclpy.parameter import Parameter

from irvf_fusion_node.node import FusionNode

FOLDER = Path(__file__).resolve().parents[2] / "config" / "sros2"
POLICIES = sorted(FOLDER.glob("*.policy.xml"))
INCLUDE = "{http://www.w3.org/2001/XInclude}include"
RULES = {"topics": ("topic", ("publish", "subscribe")), "services": ("service", ("reply", "request"))}
NODE = "irvf_fusion_node"
CAMERAS = {"/fusion": "", "/front/fusion": "/front", "/rear/fusion": "/rear"}
"""Namespace of a node -> what stands before the topics of its cameras, as the launch files have it."""


def resolved(element, folder):
    """A copy of an XML element in which other files stand where they are included, as xpointer(/profile/*) says."""
    made = copy.copy(element)
    for child in list(made):
        at = list(made).index(child)
        made.remove(child)
        if child.tag == INCLUDE:
            assert child.get("xpointer") == "xpointer(/profile/*)"
            parts = list(ET.parse(folder / child.get("href")).getroot())  # noqa: S314 - a file of this repository
        else:
            parts = [resolved(child, folder)]
        for offset, part in enumerate(parts):
            made.insert(at + offset, part)
    return made


def policy(path):
    return resolved(ET.parse(path).getroot(), path.parent)  # noqa: S314 - a file of this repository


def name_in(profile, name):
    space = profile.get("ns").rstrip("/")
    if name.startswith("/"):
        return name
    return f"{space}/{profile.get('node')}{name[1:]}" if name.startswith("~") else f"{space}/{name}"


def allowed(profile, what, rule):
    lists = [part for part in profile.findall(what) if part.get(rule) == "ALLOW"]
    return {name_in(profile, entry.text) for part in lists for entry in part}


def node_profiles():
    for path in POLICIES:
        yield from (profile for profile in policy(path).iter("profile") if profile.get("node") == NODE)


def check_profile(profile):
    assert set(profile.attrib) == {"ns", "node"}
    assert len(profile)
    for part in profile:
        tag, rules = RULES[part.tag]
        assert part.attrib
        assert set(part.attrib) <= set(rules)
        assert set(part.attrib.values()) <= {"ALLOW", "DENY"}
        names = [entry.text for entry in part]
        assert names
        assert len(set(names)) == len(names)
        for entry in part:
            assert entry.tag == tag
            assert not entry.attrib
            assert not len(entry)
            # No wildcard: what is not named is refused.
            assert all(piece.isidentifier() for piece in entry.text.lstrip("~").lstrip("/").split("/")), entry.text


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_a_policy_has_the_form_that_sros2_reads(path):
    root = policy(path)
    assert (root.tag, root.attrib, [child.tag for child in root]) == ("policy", {"version": "0.2.0"}, ["enclaves"])
    enclaves = list(root[0])
    assert {enclave.tag for enclave in enclaves} == {"enclave"}
    paths = [enclave.get("path") for enclave in enclaves]
    assert len(set(paths)) == len(paths)
    assert all(path.startswith("/") for path in paths)
    for enclave in enclaves:
        (profiles,) = enclave
        assert profiles.tag == "profiles"
        assert {profile.tag for profile in profiles} == {"profile"}
        for profile in profiles:
            check_profile(profile)


def test_a_rig_may_not_read_the_cameras_of_another():
    spaces = set()
    for profile in node_profiles():
        spaces.add(profile.get("ns"))
        images = {topic for topic in allowed(profile, "topics", "subscribe") if "/image_raw" in topic}
        assert images
        assert all(topic.startswith(f"{CAMERAS[profile.get('ns')]}/") for topic in images)
        assert all(topic.split("/")[-2 if topic.endswith("compressed") else -1] for topic in images)
    assert spaces == set(CAMERAS)


def test_an_operator_may_only_instruct_and_look():
    for path in POLICIES:
        for profile in policy(path).iter("profile"):
            if profile.get("node") != "operator":
                continue
            space = profile.get("ns")
            published = allowed(profile, "topics", "publish")
            assert published == {f"{space}/instruction", "/parameter_events", "/rosout"}
            assert allowed(profile, "services", "request") == {f"{space}/set_instruction"}
            (node,) = [other for other in node_profiles() if other.get("ns") == space]
            assert allowed(profile, "topics", "subscribe") <= allowed(node, "topics", "publish")


class Graph:
    """A fusion node with remapped cameras, and another one that looks at it through the graph."""

    def __init__(self, space, parameters):
        cameras = CAMERAS[space]
        remaps = [
            part
            for camera in ("thermal", "rgb")
            for topic in ("image_raw", "camera_info")
            for part in ("-r", f"{camera}/{topic}:={cameras}/{camera}/{topic}")
        ]
        self.context = Context()
        rclpy.init(context=self.context, args=["--ros-args", *remaps])
        self.observer = rclpy.create_node("observer", context=self.context)
        values = {**PLAIN, **parameters}
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        self.fusion = FusionNode(context=self.context, namespace=space, parameter_overrides=overrides)
        self.space = space
        self._spinning = [Spinning(self.fusion, self.context), Spinning(self.observer, self.context)]

    def change_state(self, transition):
        client = self.observer.create_client(ChangeState, f"{self.space}/{NODE}/change_state")
        assert client.wait_for_service(10.0)
        future = client.call_async(ChangeState.Request(transition=transition))
        end = time.monotonic() + 15
        while not future.done() and time.monotonic() < end:
            time.sleep(0.02)
        return future.result().success

    def seen(self):
        look = {
            ("topics", "publish"): self.observer.get_publisher_names_and_types_by_node,
            ("topics", "subscribe"): self.observer.get_subscriber_names_and_types_by_node,
            ("services", "reply"): self.observer.get_service_names_and_types_by_node,
            ("services", "request"): self.observer.get_client_names_and_types_by_node,
        }
        return {key: {name for name, _ in find(NODE, self.space)} for key, find in look.items()}

    def settled(self):
        """What the graph shows once it no longer changes."""
        last, since, end = None, time.monotonic(), time.monotonic() + 15
        while time.monotonic() < end:
            now = self.seen()
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > 1.0 and any(now.values()):
                return now
            time.sleep(0.05)
        raise AssertionError("the graph does not come to rest")

    def close(self):
        self.change_state(Transition(label="shutdown"))
        for spinning in self._spinning:
            spinning.close()
        rclpy.shutdown(context=self.context)
        # What rclpy's nodes hold in reference cycles would stay in the graph, under the name of the next node.
        del self.fusion, self.observer
        self._spinning.clear()
        gc.collect()


@contextmanager
def running(space, **parameters):
    graph = Graph(space, {name.replace("__", "."): value for name, value in parameters.items()})
    try:
        for transition in ("configure", "activate"):
            assert graph.change_state(Transition(id=TRANSITIONS[transition]))
        yield graph
    finally:
        graph.close()


@pytest.fixture(scope="module")
def used():
    """What a node in /front/fusion uses, in the configurations that change it: kind and rule -> names."""
    found = {}
    configurations = (
        {"use_sim_time": True, "registration__method": "camera_info"},
        {"thermal__transport": "compressed", "rgb__transport": "compressed"},
    )
    for parameters in configurations:
        with running("/front/fusion", **parameters) as graph:
            for key, names in graph.settled().items():
                found.setdefault(key, set()).update(names)
    return found


SINCE_JAZZY = {"get_type_description"}
WHILE_IT_MOVES = {"/tf"}
"""Subscribed to only while a transform is looked for that is not static."""


@pytest.mark.parametrize("rule", [("topics", "publish"), ("topics", "subscribe"), ("services", "reply")])
def test_the_policy_of_a_node_names_what_it_uses_and_nothing_else(used, rule):
    (profile,) = [profile for profile in node_profiles() if profile.get("ns") == "/front/fusion"]
    permitted = allowed(profile, *rule)
    assert used[rule] - permitted == set(), "used, but not permitted"
    extra = {name for name in permitted - used[rule] if name.rpartition("/")[2] not in SINCE_JAZZY}
    assert extra - WHILE_IT_MOVES == set(), "permitted, but never used"


def test_a_node_calls_no_service(used):
    assert used["services", "request"] == set()
    assert all(not allowed(profile, "services", "request") for profile in node_profiles())


def test_the_policies_of_all_namespaces_are_the_same_but_for_it():
    def relative(profile):
        space, cameras = profile.get("ns"), CAMERAS[profile.get("ns")]
        return {
            (what, rule): {name.replace(space, "NS", 1) if name.startswith(f"{space}/") else name.removeprefix(cameras)
                           for name in allowed(profile, what, rule)}
            for what, (_, rules) in RULES.items() for rule in rules
        }  # fmt: skip

    first, *others = map(relative, node_profiles())
    assert len(others) == 2
    assert all(other == first for other in others)
