"""Who moves where and when: pedestrians who cross, walkers, cyclists, and cars that wait for them.

The traffic repeats every 20 s (single walkers every 60 s), so that any moment can be asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .meshes import Mesh
from .people import build_person, riding_pose, walking_pose
from .street import LEFT_KERB_Y, PAVEMENT_HEIGHT, RIGHT_KERB_Y
from .vehicles import (
    GRIP,
    HEADLIGHT_AHEAD_M,
    HEADLIGHT_HEIGHT_M,
    SADDLE,
    build_bicycle,
    build_car,
    pedal_positions,
)

Array = NDArray[np.float64]

PERIOD_S = 20.0
CYCLE_LENGTH_M = 1.42  # what a person of 1.75 m walks in two steps
GEAR_M = 4.6  # what a bicycle rolls with one turn of the crank
LABELS = ("background", "person", "bicycle", "car")  # index = value in the class mask


@dataclass(frozen=True, eq=False)
class PlacedObject:
    """An object at one moment.

    Attributes:
        instance: number of the object, constant through the sequence, from 1.
        label: "person", "bicycle" or "car".
        mesh: in the world.
    """

    instance: int
    label: str
    mesh: Mesh


@dataclass(frozen=True, eq=False)
class Route:
    """Where a traveller is at each moment of its journey.

    Attributes:
        times: ``[T]`` seconds since the journey began.
        travelled: ``[T]`` metres since then.
        line: ``[T x 2]`` world x, y.
        heading: ``[T]`` radians, continuous.
        start: moment at which the first journey begins, seconds.
        repeat: seconds from one journey to the next; a journey is over before the next begins.
    """

    times: Array
    travelled: Array
    line: Array
    heading: Array
    start: float
    repeat: float

    def at(self, time: float) -> tuple[float, float, float, float] | None:
        """Return x, y, heading and metres travelled; None between two journeys."""
        now = (time - self.start) % self.repeat
        if now > self.times[-1]:
            return None
        x, y = (float(np.interp(now, self.times, self.line[:, axis])) for axis in (0, 1))
        return x, y, float(np.interp(now, self.times, self.heading)), float(np.interp(now, self.times, self.travelled))


def plan_route(
    waypoints: list[tuple[float, float]], speeds: list[tuple[float, float]], start: float, repeat: float = PERIOD_S
) -> Route:
    """Plan a journey along waypoints, corners rounded.

    Args:
        waypoints: world x, y in metres.
        speeds: time since the journey began and speed then, m/s; linear between, constant after the last.
        start: moment of the first journey.
        repeat: seconds from journey to journey.
    """
    corners = np.array(waypoints, dtype=np.float64)
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    distance = np.arange(0, lengths[-1], 0.1)
    raw = np.stack([np.interp(distance, lengths, corners[:, axis]) for axis in (0, 1)], -1)
    window = np.hanning(23) / np.hanning(23).sum()
    smooth = np.stack([np.convolve(np.pad(raw[:, axis], 11, mode="edge"), window, mode="valid") for axis in (0, 1)], -1)
    heading = np.unwrap(np.arctan2(*np.gradient(smooth, axis=0).T[::-1]))
    times = np.arange(0, repeat, 0.02)
    speed = np.interp(times, [t for t, _ in speeds], [v for _, v in speeds])
    travelled = np.concatenate([[0], np.cumsum((speed[1:] + speed[:-1]) / 2 * 0.02)])
    under_way = travelled <= distance[-1]
    times, travelled = times[under_way], travelled[under_way]
    line = np.stack([np.interp(travelled, distance, smooth[:, axis]) for axis in (0, 1)], -1)
    return Route(times, travelled, line, np.interp(travelled, distance, heading), start, repeat)


def _turn(heading: float) -> Array:
    c, s = math.cos(heading), math.sin(heading)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _ground(y: float) -> float:
    """Height of the ground: the kerb is a short ramp here."""
    return float(
        np.interp(
            y,
            [RIGHT_KERB_Y - 0.3, RIGHT_KERB_Y, LEFT_KERB_Y, LEFT_KERB_Y + 0.3],
            [PAVEMENT_HEIGHT, 0, 0, PAVEMENT_HEIGHT],
        )
    )


class Walker:
    """A pedestrian."""

    def __init__(self, generator: np.random.Generator, instance: int, route: Route) -> None:
        self._instance, self._route = instance, route
        self._size = generator.uniform(0.91, 1.08)
        self._phase = generator.uniform(0, 2 * math.pi)
        self._body = build_person(generator)

    def at(self, time: float) -> list[PlacedObject]:
        """Return the walker, where there is one at that time."""
        place = self._route.at(time)
        if place is None:
            return []
        x, y, heading, travelled = place
        phase = self._phase + 2 * math.pi * travelled / (CYCLE_LENGTH_M * self._size)
        body = self._body.posed(*walking_pose(phase, 1.0))
        mesh = body.moved(_turn(heading) * self._size, np.array([x, y, _ground(y)]))
        return [PlacedObject(self._instance, "person", mesh)]


class Cyclist:
    """A bicycle and who rides it: two objects."""

    def __init__(self, generator: np.random.Generator, instance: int, route: Route, *, night: bool) -> None:
        self._instance, self._route = instance, route
        self._rider = build_person(generator, rider=True)
        self._bicycle = build_bicycle(generator, lights=night)

    def at(self, time: float) -> list[PlacedObject]:
        """Return bicycle and rider, where they are there at that time."""
        place = self._route.at(time)
        if place is None:
            return []
        x, y, heading, travelled = place
        crank = 2 * math.pi * travelled / GEAR_M
        pose = riding_pose(SADDLE + np.array([0.0, 0.0, 0.08]), GRIP, pedal_positions(crank))
        turn, offset = _turn(heading), np.array([x, y, 0.0])
        return [
            PlacedObject(self._instance, "bicycle", self._bicycle.moved(turn, offset)),
            PlacedObject(self._instance + 1, "person", self._rider.posed(*pose).moved(turn, offset)),
        ]


class Car:
    """A car under way."""

    def __init__(self, generator: np.random.Generator, instance: int, route: Route) -> None:
        self._instance, self._route = instance, route
        self._mesh = build_car(generator, running=True)

    def at(self, time: float) -> list[PlacedObject]:
        """Return the car, where it is there at that time."""
        place = self._route.at(time)
        if place is None:
            return []
        x, y, heading, _ = place
        return [PlacedObject(self._instance, "car", self._mesh.moved(_turn(heading), np.array([x, y, 0.0])))]

    def headlight(self, time: float) -> Array | None:
        """Position ``[3]`` and direction ``[3]`` of the pair of head-lights, as ``[6]``; None when it is not there."""
        place = self._route.at(time)
        if place is None:
            return None
        x, y, heading, _ = place
        ahead = np.array([math.cos(heading), math.sin(heading), -0.03])
        nose = np.array([x, y, HEADLIGHT_HEIGHT_M]) + HEADLIGHT_AHEAD_M * ahead * (1, 1, 0)
        return np.concatenate([nose, ahead / np.linalg.norm(ahead)])


class Traffic:
    """Everything that is a person, a bicycle or a car.

    Attributes:
        parked: objects that never move.
    """

    def __init__(self, seed: int, *, night: bool) -> None:
        self._generator = np.random.default_rng([seed, 303])
        self._count = 0
        self.parked = self._park()
        self._cars = [Car(self._generator, self._number(), route) for route in self._car_routes()]
        self._others: list[Walker | Cyclist] = [
            Walker(self._generator, self._number(), route) for route in self._walking_routes()
        ]
        away = plan_route([(-3, 1.5), (100, 1.5)], [(0, self._speed(4.7))], start=18.6)
        towards = plan_route([(85, 6.6), (-10, 6.6)], [(0, self._speed(5.0))], start=4.0)
        for route in (away, towards):
            self._others.append(Cyclist(self._generator, self._number(2), route, night=night))

    def at(self, time: float) -> list[PlacedObject]:
        """Return what moves, at a time in seconds."""
        return [found for traveller in (*self._cars, *self._others) for found in traveller.at(time)]

    def headlights(self, time: float) -> Array:
        """Position and direction of the head-lights of the cars under way, ``[M x 6]``."""
        lights = [light for light in (car.headlight(time) for car in self._cars) if light is not None]
        return np.array(lights).reshape(-1, 6)

    def _number(self, count: int = 1) -> int:
        first = self._count + 1
        self._count += count
        return first

    def _speed(self, typical: float) -> float:
        return float(typical * self._generator.uniform(0.95, 1.05))

    def _park(self) -> list[PlacedObject]:
        objects = []
        for x, y, heading in (
            (14.8, 8.3, math.pi),
            (20.4, 8.25, math.pi),
            (31.5, 8.3, math.pi),
            (24.0, -0.75, 0.0),
            (36.0, -0.7, 0.0),
        ):
            mesh = build_car(self._generator, running=False).moved(_turn(heading), np.array([x, y, 0.0]))
            objects.append(PlacedObject(self._number(), "car", mesh))
        leaning = build_bicycle(self._generator, lights=False).moved(
            _turn(0.35), np.array([9.3, -4.3, PAVEMENT_HEIGHT])
        )
        return [*objects, PlacedObject(self._number(), "bicycle", leaning)]

    @staticmethod
    def _car_routes() -> list[Route]:
        oncoming, away = [(100.0, 5.6), (-9.0, 5.6)], [(-7.0, 2.4), (104.0, 2.4)]
        waits = [(0.0, 9.0), (7.0, 9.0), (11.0, 0.0), (15.5, 0.0), (18.5, 9.0)]  # stops before the crossing
        return [
            plan_route(oncoming, waits, start=-6.0),
            plan_route(oncoming, [(0.0, 9.5)], start=6.0),
            plan_route(away, [(0.0, 8.0)], start=10.0),
            plan_route(away, [(0.0, 9.0)], start=16.5),
        ]

    def _walking_routes(self) -> list[Route]:
        def across(points: list[tuple[float, float]], reach_kerb: float, life: int, shift: float = 0.0) -> Route:
            speed = self._speed(1.38)
            to_kerb = math.dist(points[0], points[1])
            moved = [(x + shift, y) for x, y in points]
            return plan_route(moved, [(0, speed)], reach_kerb - to_kerb / speed, repeat=PERIOD_S * life)

        from_right = [(42.0, -3.6), (11.9, -3.4), (11.9, 11.0), (48.0, 11.2)]
        from_left = [(1.0, 11.0), (11.2, 11.0), (11.2, -3.2), (1.5, -3.4)]
        routes = [across(from_right, 0.6 + PERIOD_S * turn, life=3) for turn in range(3)]
        routes.append(across(from_right, 1.5, life=3, shift=-0.8))
        routes += [across(from_left, 0.4 + PERIOD_S * turn, life=2) for turn in range(2)]
        for line, ahead in (
            ([(1.0, -2.9), (84.0, -3.1)], 6.5),
            ([(80.0, -4.1), (1.0, -4.0)], 58.0),
            ([(75.0, 10.8), (1.0, 10.9)], 52.0),
        ):
            speed = self._speed(1.38)
            routes.append(plan_route(line, [(0, speed)], start=-ahead / speed, repeat=PERIOD_S * 3.2))
        return routes
