"""What the page of an app has for an operator who may manage it: buttons, and a form for another credential."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.web.template import Tag, tags

from txapns.daemon.operations.cells import Cell, number
from txapns.daemon.operations.health import AppOverview
from txapns.daemon.operations.management import MOST

__all__ = ["actions"]

_CONFIGURED = "Its credential is in the configuration: replace the file, and the daemon reads it again."


def actions(app: AppOverview, credentials: Mapping[str, Cell], *, rotates: bool) -> Tag:
    """
    Make the section with everything that can be done.

    :param credentials: say which credential the app has, or each of its two sides, by the environment.
    :param rotates: whether it can be replaced here.
    """
    forms = [_button("resume", "Resume") if app.condition == "paused" else _button("pause", "Pause")]
    if app.dead:
        forms += [_button("retry", "Retry dead letters"), _button("purge", "Purge dead letters", "I am sure")]
        forms += [tags.p(f"At most {number(MOST)} at a time, the oldest first.", class_="muted")]
    heading = tags.h2("Manage", id="manage-title")
    current = {environment: _with_note(cell) for environment, cell in credentials.items()}
    rotation = _rotation(current) if rotates else tags.p(_CONFIGURED, class_="configured muted")
    section = tags.section(heading, tags.div(forms, class_="actions"), rotation, id="manage")
    section.attributes["aria-labelledby"] = "manage-title"
    return section


def _button(action: str, label: str, sure: str = "") -> Tag:
    hidden = tags.input(type="hidden", name="action", value=action)
    button = tags.button(label, type="submit", id=action)
    if not sure:
        return tags.form(hidden, button, method="post", action="")
    box = tags.input(type="checkbox", name="sure", value="yes", required="required")
    return tags.form(hidden, tags.label(box, sure), " ", button, method="post", action="")


def _with_note(cell: Cell) -> str:
    return f"{cell.text} ({cell.note})" if cell.note else cell.text


def _rotation(current: Mapping[str, str]) -> Tag:
    """Make the form with which a credential is replaced; of an app with two sides it says which one."""
    options = [tags.option(f"{environment}: {text}", value=environment) for environment, text in current.items()]
    choice = tags.select(options, name="environment", id="environment")
    which = tags.p(tags.label("It replaces the one of", for_="environment"), choice)
    if len(options) == 1:
        which = tags.p(f"It replaces this one: {next(iter(current.values()))}.")
    pasted = tags.textarea(name="pasted", id="pasted", rows="4", autocomplete="off", spellcheck="false")
    fields = [
        ("file", "File: a .p8, PEM or PKCS#12", tags.input(type="file", name="file", id="file")),
        ("pasted", "Or what is in it: a .p8 or PEM", pasted),
        ("key_id", "Key ID, for a .p8", _field("key_id")),
        ("team_id", "Team ID, for a .p8", _field("team_id")),
        ("passphrase", "Passphrase, if it is encrypted", _field("passphrase", kind="password")),
    ]
    form = tags.form(
        which(class_="wide"),
        tags.input(type="hidden", name="action", value="rotate"),
        [tags.p(tags.label(label, for_=name), field) for name, label, field in fields],
        tags.button("Replace the credential", type="submit", id="rotate"),
        method="post",
        action="",
        enctype="multipart/form-data",
        class_="rotation",
    )
    return tags.details(tags.summary("Another credential"), form)


def _field(name: str, kind: str = "text") -> Tag:
    return tags.input(type=kind, name=name, id=name, maxlength="200", autocomplete="off", spellcheck="false")
