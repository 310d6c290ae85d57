"""People: a jointed body with clothes, warm face and hands, that walks or rides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .meshes import Mesh, Paint, capsule, ellipsoid, join, tube

Array = NDArray[np.float64]
_Choice = TypeVar("_Choice")

# Bones; each begins at its joint and, at rest, points down (torso and head: up).
TORSO, HEAD, UPPER_ARM_L, UPPER_ARM_R, FOREARM_L, FOREARM_R, THIGH_L, THIGH_R, SHIN_L, SHIN_R, FOOT_L, FOOT_R = range(
    12
)
BLOOD_C = 36.0  # what warms the skin

# Lengths of a body of 1.75 m, metres.
THIGH_M, SHIN_M, ANKLE_M = 0.43, 0.42, 0.075
UPPER_ARM_M, FOREARM_M = 0.29, 0.26
SHOULDER = (0.0, 0.18, 0.465)  # of the left arm in the torso's frame
HIP_HALF_M, NECK_M = 0.085, 0.545

JACKETS = (
    (0.03, 0.03, 0.035),
    (0.05, 0.06, 0.10),
    (0.30, 0.05, 0.04),
    (0.10, 0.14, 0.08),
    (0.32, 0.28, 0.20),
    (0.06, 0.16, 0.28),
)
TROUSERS = ((0.03, 0.035, 0.05), (0.05, 0.08, 0.16), (0.02, 0.02, 0.02), (0.16, 0.13, 0.10))
SKINS = ((0.42, 0.26, 0.19), (0.30, 0.17, 0.11), (0.12, 0.065, 0.04), (0.48, 0.31, 0.24))
HAIRS = ((0.02, 0.015, 0.012), (0.10, 0.06, 0.03), (0.26, 0.18, 0.09), (0.30, 0.29, 0.28))


def _limb(end: float, radius: tuple[float, float], paint: Paint, bone: int) -> Mesh:
    return capsule((0, 0, 0), (0, 0, -end), radius, paint, sides=9, bone=bone)


def build_person(generator: np.random.Generator, *, rider: bool = False) -> Mesh:
    """Build a body at rest, in frames of its bones, with random clothes.

    Args:
        generator: source of the choices.
        rider: a helmet instead of bare hair, no bag.
    """

    def pick(options: Sequence[_Choice]) -> _Choice:
        return options[int(generator.integers(len(options)))]

    thick = generator.uniform(0.0, 1.0)  # of the jacket: thick cloth stays near the air's temperature
    skin_colour = pick(SKINS)
    skin = Paint(skin_colour, BLOOD_C, 0.84, solar=0.1)
    hands = Paint(skin_colour, BLOOD_C, 0.70, solar=0.1)
    jacket = Paint(pick(JACKETS), BLOOD_C, 0.46 - 0.17 * thick, solar=0.28)
    sleeve = Paint(jacket.albedo, BLOOD_C, jacket.coupling - 0.03, solar=0.28)
    chest = Paint(jacket.albedo, BLOOD_C, jacket.coupling + 0.06, solar=0.28)
    trousers = Paint(pick(TROUSERS), BLOOD_C, generator.uniform(0.34, 0.46), solar=0.25)
    shins = Paint(trousers.albedo, BLOOD_C, trousers.coupling - 0.08, solar=0.25)
    shoes = Paint(pick(((0.02, 0.02, 0.02), (0.4, 0.4, 0.4), (0.12, 0.07, 0.04))), BLOOD_C, 0.2)
    hair = Paint(pick(HAIRS), BLOOD_C, 0.40, solar=0.4)
    if rider:
        hair = Paint(pick(((0.5, 0.5, 0.5), (0.03, 0.03, 0.03), (0.5, 0.06, 0.05))), BLOOD_C, 0.14, solar=0.5)
    width = generator.uniform(0.92, 1.12)
    spine = [(0, 0, z) for z in (-0.10, 0.02, 0.12, 0.26, 0.38, 0.47, 0.515, 0.555)]
    half = [
        (0.10, 0.14),
        (0.115, 0.165),
        (0.11, 0.155),
        (0.115, 0.165),
        (0.12, 0.18),
        (0.11, 0.175),
        (0.085, 0.13),
        (0.05, 0.06),
    ]
    rows = [trousers, trousers, jacket, jacket, chest, chest, jacket, jacket, skin]
    parts = [tube(spine, [(a * width, b * width) for a, b in half], rows, sides=12, bone=TORSO)]
    parts.append(tube([(0, 0, -0.03), (0.01, 0, 0.07)], [(0.05, 0.05), (0.05, 0.05)], [skin], bone=HEAD))
    head = (0.098 + 0.012 * rider, 0.078 + 0.012 * rider, 0.122)
    parts.append(ellipsoid((0.015, 0, 0.14), head, [skin, skin, skin, skin, hair, hair], sides=10, bone=HEAD))
    parts.append(ellipsoid((-0.022, 0, 0.155), (0.088, 0.084, 0.115), [hair], sides=10, bone=HEAD))
    if generator.random() < 0.35 and not rider:  # a bag on the back
        bag = Paint(pick(((0.05, 0.05, 0.06), (0.25, 0.08, 0.03), (0.05, 0.12, 0.2))), BLOOD_C, 0.06)
        parts.append(
            tube([(-0.2, 0, 0.08), (-0.2, 0, 0.2), (-0.18, 0, 0.44)], [(0.09, 0.14), (0.1, 0.15), (0.06, 0.12)], [bag])
        )
    elif generator.random() < 0.4 and not rider:  # a long coat
        hem = [(0.15, 0.185), (0.13, 0.175), (0.12, 0.17)]
        parts.append(tube([(0, 0, -0.38), (0, 0, -0.12), (0, 0, 0.1)], hem, [jacket], sides=12))
    for upper, fore, thigh, shin, foot in (
        (UPPER_ARM_L, FOREARM_L, THIGH_L, SHIN_L, FOOT_L),
        (UPPER_ARM_R, FOREARM_R, THIGH_R, SHIN_R, FOOT_R),
    ):
        parts += [
            _limb(UPPER_ARM_M, (0.058 * width, 0.047), sleeve, upper),
            _limb(FOREARM_M - 0.02, (0.047, 0.037), sleeve, fore),
            ellipsoid((0.01, 0, -FOREARM_M - 0.05), (0.042, 0.025, 0.075), [hands], sides=7, bone=fore),
            _limb(THIGH_M, (0.088 * width, 0.062), trousers, thigh),
            _limb(SHIN_M - 0.03, (0.062, 0.045), shins, shin),
            tube(
                [(-0.07, 0, -0.035), (0.02, 0, -0.03), (0.18, 0, -0.055)],
                [(0.04, 0.042), (0.045, 0.046), (0.018, 0.035)],
                [shoes],
                sides=7,
                bone=foot,
            ),
        ]
    return join(parts)


def _swing(angle: float) -> Array:
    """Rotation that swings a hanging limb forward by an angle in radians."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])


def _aim(direction: Array) -> Array:
    """Rotation that points a hanging limb (-z) along a direction, its front as far forward (x) as it goes."""
    down = -direction / np.linalg.norm(direction)
    left = np.cross(down, [1.0, 0.0, 0.0])
    left /= np.linalg.norm(left)
    return np.stack([np.cross(left, down), left, down], -1)


def _reach(root: Array, target: Array, upper: float, lower: float, pole: Array) -> tuple[Array, Array]:
    """Bend a two-bone limb so that it ends at a target; return its middle joint and its end.

    The middle joint lies towards ``pole``; a target out of reach is approached as far as the limb goes.
    """
    line = target - root
    distance = min(float(np.linalg.norm(line)), 0.999 * (upper + lower))
    axis = line / np.linalg.norm(line)
    along = (upper**2 - lower**2 + distance**2) / (2 * distance)
    aside = pole - (pole @ axis) * axis
    aside /= np.linalg.norm(aside)
    middle = root + axis * along + aside * math.sqrt(max(upper**2 - along**2, 0.0))
    return middle, root + axis * distance


def walking_pose(phase: float, stride: float) -> tuple[Array, Array]:
    """Pose of a walker who looks along x, the ground at z = 0.

    Args:
        phase: of the gait in radians; 2 pi are two steps.
        stride: 1 is a brisk walk, 0 stands.

    Returns:
        Rotations ``[12 x 3 x 3]`` and offsets ``[12 x 3]`` of the bones.
    """
    rotations, offsets = np.tile(np.eye(3), (12, 1, 1)), np.zeros((12, 3))
    lean = 0.05 * stride
    rotations[TORSO] = _swing(-lean)
    for side, (upper, fore, thigh, shin, foot) in (
        (1.0, (UPPER_ARM_L, FOREARM_L, THIGH_L, SHIN_L, FOOT_L)),
        (-1.0, (UPPER_ARM_R, FOREARM_R, THIGH_R, SHIN_R, FOOT_R)),
    ):
        step = phase if side > 0 else phase + math.pi
        hip = stride * (0.42 * math.sin(step) + 0.06)
        knee = stride * (0.12 + 0.95 * max(0.0, math.cos(step + 0.25)) ** 2)  # bends while the leg comes forward
        rotations[thigh], rotations[shin] = _swing(hip), _swing(hip - knee)
        rotations[foot] = _swing(0.35 * (hip - knee) + 0.1 * stride * math.sin(step))
        arm = -0.40 * stride * math.sin(step)
        rotations[upper], rotations[fore] = _swing(arm), _swing(arm + 0.22 + 0.25 * stride * max(0.0, -math.sin(step)))
        offsets[thigh] = (0.0, side * HIP_HALF_M, 0.0)
        offsets[shin] = offsets[thigh] + rotations[thigh] @ [0, 0, -THIGH_M]
        offsets[foot] = offsets[shin] + rotations[shin] @ [0, 0, -SHIN_M]
        offsets[upper] = rotations[TORSO] @ (np.array(SHOULDER) * (1, side, 1))
        offsets[fore] = offsets[upper] + rotations[upper] @ [0, 0, -UPPER_ARM_M]
    offsets[HEAD] = rotations[TORSO] @ [0, 0, NECK_M]
    offsets[:, 2] += ANKLE_M - min(offsets[FOOT_L, 2], offsets[FOOT_R, 2])
    return rotations, offsets


def riding_pose(hip: Array, bars: Array, pedals: tuple[Array, Array], lean: float = 0.55) -> tuple[Array, Array]:
    """Pose of a cyclist who looks along x.

    Args:
        hip: position of the hips ``[3]``.
        bars: left grip of the handlebar ``[3]``; the right one mirrors it in y.
        pedals: left and right pedal ``[3]``.
        lean: of the torso, forward, in radians.

    Returns:
        Rotations ``[12 x 3 x 3]`` and offsets ``[12 x 3]`` of the bones.
    """
    rotations, offsets = np.tile(np.eye(3), (12, 1, 1)), np.zeros((12, 3))
    rotations[TORSO] = _swing(-lean)
    rotations[HEAD] = _swing(-0.15)
    offsets[TORSO] = hip
    offsets[HEAD] = hip + rotations[TORSO] @ [0, 0, NECK_M]
    for side, pedal, (upper, fore, thigh, shin, foot) in (
        (1.0, pedals[0], (UPPER_ARM_L, FOREARM_L, THIGH_L, SHIN_L, FOOT_L)),
        (-1.0, pedals[1], (UPPER_ARM_R, FOREARM_R, THIGH_R, SHIN_R, FOOT_R)),
    ):
        offsets[thigh] = hip + np.array([0, side * HIP_HALF_M, 0])
        knee, ankle = _reach(
            offsets[thigh], pedal + np.array([-0.05, 0, 0.09]), THIGH_M, SHIN_M, np.array([1.0, 0, 0.3])
        )
        rotations[thigh], rotations[shin] = _aim(knee - offsets[thigh]), _aim(ankle - knee)
        offsets[shin], offsets[foot] = knee, ankle
        rotations[foot] = _swing(-0.15)
        offsets[upper] = hip + rotations[TORSO] @ (np.array(SHOULDER) * (1, side, 1))
        elbow, wrist = _reach(
            offsets[upper], bars * (1, side, 1), UPPER_ARM_M, FOREARM_M + 0.04, np.array([-0.3, side, -0.8])
        )
        rotations[upper], rotations[fore] = _aim(elbow - offsets[upper]), _aim(wrist - elbow)
        offsets[fore] = elbow
    return rotations, offsets
