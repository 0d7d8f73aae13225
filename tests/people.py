"""A made-up person before a made-up wall: pictures, true masks, and masks as a poor net draws them.

scene = Scene(seed)
view, truth = scene.at(x)            # the person's middle at column x
raw = scene.drawn(truth, number)     # with a wobbling edge, crumbs, and a hole that comes and goes
"""

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 256, 144

View = NDArray[np.uint8]
Mask = NDArray[np.float32]


class Scene:
    """Everything follows from the seed and the arguments.

    Args:
        seed: Another one is another wall and another coat.
        noise: Standard deviation of the camera's noise, in levels.
        size: Of the view, (width, height).
    """

    def __init__(self, seed: int = 1, noise: float = 1.5, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
        self.seed = seed
        self.noise = noise
        self.width, self.height = size
        self._wall = self._texture(seed, (150, 160, 170))
        self._coat = self._texture(seed + 1000, (70, 60, 90))

    def _texture(self, seed: int, colour: tuple[int, int, int]) -> NDArray[np.float32]:
        rng = np.random.default_rng(seed)
        shape = (self.height, 2 * self.width)
        rough = cv2.GaussianBlur(rng.normal(0, 1, shape).astype(np.float32), (0, 0), 2.5)
        broad = cv2.GaussianBlur(rng.normal(0, 1, shape).astype(np.float32), (0, 0), 12)
        pattern = 18 * rough / rough.std() + 14 * broad / broad.std()
        return pattern[..., None] + np.array(colour, np.float32)

    def at(self, x: float, scale: float = 1.0, number: int = 0) -> tuple[View, Mask]:
        """Return the picture, (h, w, 3) uint8 RGB, and the true mask, (h, w), with the person's middle at column x.

        Args:
            x: Column; the coat's pattern moves along.
            scale: Size of the person; 1 fills most of the height.
            number: Of the frame: other noise.
        """
        truth = person(x, self.height * (1 - 0.42 * scale), scale * self.height / HEIGHT, (self.width, self.height))
        shift = np.array([[1, 0, x - self.width / 2 - self.width / 2], [0, 1, 0]], np.float32)
        coat = cv2.warpAffine(self._coat, shift, (self.width, self.height), borderMode=cv2.BORDER_REFLECT)
        picture = coat * truth[..., None] + self._wall[:, : self.width] * (1 - truth[..., None])
        rng = np.random.default_rng((self.seed, number))
        picture = picture + rng.normal(0, self.noise, picture.shape)
        return np.clip(picture, 0, 255).astype(np.uint8), truth

    def drawn(self, truth: Mask, number: int) -> Mask:
        """Return a true mask as a poor net draws it on frame `number`."""
        rng = np.random.default_rng((self.seed, 7, number))
        wobble = cv2.GaussianBlur(rng.normal(0, 1, truth.shape).astype(np.float32), (0, 0), 4)
        soft = cv2.GaussianBlur(truth, (0, 0), 2.0)
        raw = np.clip((soft - 0.5 + 0.22 * wobble / wobble.std()) * 2.5 + 0.5, 0, 1)
        raw[(soft > 0.98) & (wobble < 2 * wobble.std())] = 1
        raw[(soft < 0.02) & (wobble < 2.5 * wobble.std())] = 0
        if number % 3 == 0:  # a hole that comes and goes
            inside = cv2.moments(truth)
            at = round(inside["m10"] / inside["m00"]), round(inside["m01"] / inside["m00"])
            cv2.circle(raw, at, 3, 0.2, cv2.FILLED)
        return raw.astype(np.float32)

    def walk(self, count: int, first: float, speed: float) -> list[tuple[Mask, View, Mask]]:
        """Return (raw, view, truth) of frames with the person moving `speed` columns a frame."""
        frames = []
        for number in range(count):
            view, truth = self.at(first + speed * number, number=number)
            frames.append((self.drawn(truth, number), view, truth))
        return frames


def person(x: float, y: float, scale: float, size: tuple[int, int]) -> Mask:
    """Return a head on shoulders, (h, w), 0..1, smooth at the edge; `y` is the row of the head's middle."""
    fine, bits = 4, 4
    width, height = size
    mask = np.zeros((height * fine, width * fine), np.uint8)

    def fixed(value: float) -> int:
        return round(value * fine * (1 << bits))

    head = (fixed(x), fixed(y))
    cv2.ellipse(mask, head, (fixed(17 * scale), fixed(22 * scale)), 0, 0, 360, 255, cv2.FILLED, shift=bits)
    chest = (fixed(x), fixed(y + 72 * scale))
    cv2.ellipse(mask, chest, (fixed(48 * scale), fixed(50 * scale)), 0, 0, 360, 255, cv2.FILLED, shift=bits)
    return cv2.resize(mask, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
