"""``view``: volumes in a browser, from Python and inline in notebooks."""

from __future__ import annotations

import errno
import os
import threading
from html import escape
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ._errors import StorageError, UsageError
from ._windows import window_of

if TYPE_CHECKING:
    from ._viewer.server import Server
    from ._viewer.state import Convention

# Views that are not closed; a notebook may show one that no name refers to.
_open_views: set[View] = set()


def view(
    volume_or_path: Any,
    overlay: Any = None,
    *,
    window: str | tuple[float, float] | None = None,
    convention: Convention = "radiological",
    sampler: Any = None,
    patches: int = 12,
    seed: int = 0,
    port: int = 0,
) -> View:
    """Shows volumes in a browser, by a small server that only this machine can reach.

    The page is neuroglancer's (``pip install voxquarry[view]``) and works offline: three slices
    that turn and zoom, label maps with their names and colours, and whatever ``overlay`` holds.
    Affines put layers in place. Voxels are read as they are looked at, so volumes may be larger
    than memory. Images show real values.

    Args:
        volume_or_path: A data set, subject or volume, at another spacing too, or
            ``"STORE[/SUBJECT[/VOLUME]]"``; of several subjects the page has a list with a search
            box. Also an array ``(z, y, x)`` or ``(c, z, y, x)``, where whole numbers are labels.
        overlay: What is shown above: the same, or a list of them. Of a store, the subject of the
            same name is taken; an array has the grid of the first volume.
        window: The real values that are black and white: ``(low, high)``, or ``"lung"``,
            ``"bone"``, ``"soft"`` or ``"brain"`` for CT. By default percentiles.
        convention: ``"radiological"``: the patient's right is on the left;
            ``"neurological"``: on the right.
        sampler: Its patches are shown as boxes; of a random sampler, also how many of 10,000
            patches cover a voxel, as a layer to switch on.
        patches: The number of boxes.
        seed: The seed of a random sampler.
        port: The port of the server; 0 for any that is free.

    Returns:
        A ``View``: ``view.url`` is what to open, and ``view.close()`` ends the server. In a
        notebook it shows itself.

    Raises:
        UsageError: What cannot be shown, or an argument with a value that is not accepted; also a
            KeyError where a subject or volume is missing.
        StorageError: A port that is taken.
        ModuleNotFoundError: The package neuroglancer is missing.

    Example:
        >>> with vq.view("store.zarr/case01", overlay="pred.zarr") as shown:
        ...     webbrowser.open(shown.url)
    """
    if convention not in ("radiological", "neurological"):
        raise UsageError(f"convention {convention!r}: expected radiological or neurological")
    if not 0 <= port < 2**16:
        raise UsageError(f"port {port}: expected 0 to 65535")
    if patches < 0:
        raise UsageError(f"patches {patches}: expected at least 0")
    # Imported when somebody looks, for a web server's modules take a while.
    from ._viewer.scene import Patches, Scene
    from ._viewer.server import Server

    overlays = overlay if isinstance(overlay, list | tuple) else [overlay]
    scene = Scene(
        volume_or_path,
        [item for item in overlays if item is not None],
        None if window is None else window_of(window),
        None if sampler is None or patches == 0 else Patches(sampler, patches, seed),
    )
    try:
        server = Server(scene, convention, port)
    except OSError as error:
        remedy = "choose another, or 0" if error.errno == errno.EADDRINUSE else "choose port 0"
        raise StorageError(f"port {port}: {os.strerror(error.errno or 0)}; {remedy}") from error
    return View(server)


class View:
    """A page that shows volumes, until it is closed or the program ends; ``view`` makes it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, name="voxquarry-view", daemon=True
        )
        self._thread.start()
        _open_views.add(self)

    @property
    def url(self) -> str:
        """The address of the page; everybody on this machine who knows it sees the volumes."""
        return self._server.url

    def close(self) -> None:
        """Ends the server; closing it twice does nothing."""
        if self not in _open_views:
            return
        _open_views.discard(self)
        self._server.closing.set()
        self._server.problems.wake()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> View:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        closed = "" if self in _open_views else " (closed)"
        return f"<voxquarry.View {self.url}{closed}>"

    def _repr_html_(self) -> str:
        if self not in _open_views:
            return "<p>This view is closed.</p>"
        return (
            f'<iframe src="{escape(self.url)}" width="100%" height="600" style="border: 0"'
            ' title="Voxquarry"></iframe>'
        )
