"""The terminal's view of a pooler: pools, who holds servers, clients, servers, and commands for admins."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import ClassVar

from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Horizontal
from textual.coordinate import Coordinate
from textual.screen import ModalScreen
from textual.widgets import Button, DataTable, Footer, Input, Label, Sparkline, Static, TabbedContent, TabPane
from textual.worker import get_current_worker

from pgferry.client import ClientError, QueryError
from pgferry.observe.figures import CLIENTS, HOLDERS, POOLS, SERVERS, Figures, Watch

_TABLES = {"pools": POOLS, "holders": HOLDERS, "clients": CLIENTS, "servers": SERVERS}
_TITLES = {"pools": "Pools", "holders": "Holding", "clients": "Clients", "servers": "Servers"}
_MOST_ROWS = 500
Table = DataTable[str]


class Ask(ModalScreen[bool]):
    """Yes or no."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n", "answer(False)", "No"),
        Binding("y", "answer(True)", "Yes"),
    ]
    DEFAULT_CSS = """
    Ask { align: center middle; }
    Ask > Grid { grid-size: 2; grid-rows: 1fr 3; padding: 1 2; width: 64; height: 11; }
    Ask > Grid { border: round $accent; background: $surface; }
    Ask Label { column-span: 2; width: 1fr; content-align: center middle; height: 1fr; }
    Ask Button { width: 1fr; }
    """

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """The question and two buttons."""
        yield Grid(
            Label(self._question, markup=False),
            Button("Yes (y)", variant="error", id="yes"),
            Button("No (n)", variant="primary", id="no"),
        )

    def on_mount(self) -> None:
        """No is the safe answer to a stray Enter."""
        self.query_one("#no").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """A button is an answer."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, yes: bool) -> None:
        """So is a key."""
        self.dismiss(yes)


class Top(App[None]):
    """The whole screen. `watch` looks; `order` runs a command: a PAUSE that waits does not stop the looking."""

    TITLE = "pgferry top"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("1", "show('pools')", "Pools", show=False),
        Binding("2", "show('holders')", "Holding", show=False),
        Binding("3", "show('clients')", "Clients", show=False),
        Binding("4", "show('servers')", "Servers", show=False),
        Binding("slash", "search", "Search", key_display="/"),
        Binding("escape", "leave_search", "Leave the search", show=False),
        Binding("space", "freeze", "Freeze"),
        Binding("p", "pause", "Pause"),
        Binding("r", "resume", "Resume"),
        Binding("k", "kill", "Kill client"),
        Binding("l", "reload", "Reload"),
    ]
    CSS = """
    #summary { height: 4; padding: 0 1; background: $surface; }
    #words { width: auto; min-width: 56; padding: 1 2 0 0; }
    #rate { width: 1fr; height: 3; margin: 1 0 0 0; }
    #search { display: none; height: 3; }
    #search.on { display: block; }
    TabbedContent { height: 1fr; }
    DataTable { height: 1fr; }
    """

    def __init__(self, watch: Watch, order: Callable[[str], None], where: str, interval: float) -> None:
        super().__init__()
        self._watch = watch
        self._order = order
        self._looking = threading.Lock()
        self.ended = ""
        """Why it ended, when not by its user."""
        self._where = where
        self._interval = interval
        self._frozen = False
        self._rates: deque[float] = deque([0.0], maxlen=120)
        self.figures = Figures()

    def compose(self) -> ComposeResult:
        """A summary, a search line, the tables."""
        with Horizontal(id="summary"):
            yield Static(id="words", markup=False)
            yield Sparkline(list(self._rates), id="rate")
        yield Input(placeholder="Search", id="search")
        with TabbedContent(initial="tab-pools"):
            for name, title in _TITLES.items():
                with TabPane(title, id=f"tab-{name}"):
                    yield DataTable[str](id=name, cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        """Columns, and the first look."""
        for name, columns in _TABLES.items():
            self._table(name).add_columns(*columns)
        self._table("pools").focus()
        self.set_interval(self._interval, self._tick)
        self.look()

    def _table(self, name: str) -> Table:
        return self.query_one(f"#{name}", DataTable)

    @property
    def shown(self) -> str:
        """The table that is looked at."""
        return self.query_one(TabbedContent).active.removeprefix("tab-")

    def _tick(self) -> None:
        if not self._frozen:
            self.look()

    def look(self) -> None:
        """Ask the console for what is looked at."""
        self._look(self.shown)

    @work(thread=True, exclusive=True, group="console")
    def _look(self, what: str) -> None:
        """Off the screen's thread."""
        try:
            with self._looking:
                if get_current_worker().is_cancelled:
                    return
                figures = self._watch.look(what)
        except (OSError, ClientError) as error:
            self.call_from_thread(self.end, f"the console has gone: {error}")
            return
        if not get_current_worker().is_cancelled:
            self.call_from_thread(self.take, figures)

    def end(self, why: str) -> None:
        """The pooler is not there any more."""
        self.ended = why
        self.exit(return_code=1)

    def take(self, figures: Figures) -> None:
        """Show new figures."""
        self.figures = figures
        self._rates.append(figures.transactions)
        self.query_one("#rate", Sparkline).data = list(self._rates)
        frozen = "  FROZEN" if self._frozen else ""
        self.query_one("#words", Static).update(
            f"{self._where}  {figures.state}{frozen}\n"
            f"{figures.transactions:,.0f} transactions/s   {figures.active} of "
            f"{figures.active + figures.idle} servers in use   {figures.waiting} waiting"
        )
        self.fill()

    def fill(self) -> None:
        """The rows of the table that is looked at, as far as they match the search; the cursor stays."""
        name = self.shown
        rows: list[list[str]] = getattr(self.figures, name)
        words = self.query_one("#search", Input).value.lower().split()
        rows = [row for row in rows if all(word in " ".join(row).lower() for word in words)]
        table = self._table(name)
        at, column = table.cursor_row, table.scroll_x
        table.clear()
        for row in rows[:_MOST_ROWS]:
            table.add_row(*row)
        if rows:
            table.move_cursor(row=min(at, len(rows) - 1), animate=False)
        table.scroll_to(x=column, animate=False)

    def on_tabbed_content_tab_activated(self, _event: TabbedContent.TabActivated) -> None:
        """Another table: its rows are asked for now."""
        self.look()

    def on_input_changed(self, _event: Input.Changed) -> None:
        """The search narrows what is there already."""
        self.fill()

    def on_input_submitted(self, _event: Input.Submitted) -> None:
        """Back to the table, with the search in force."""
        self._table(self.shown).focus()

    def action_show(self, name: str) -> None:
        """Look at another table."""
        self.query_one(TabbedContent).active = f"tab-{name}"
        self._table(name).focus()

    def action_search(self) -> None:
        """Open the search line."""
        search = self.query_one("#search", Input)
        search.add_class("on")
        search.focus()

    def action_leave_search(self) -> None:
        """Close it and show everything."""
        search = self.query_one("#search", Input)
        search.value = ""
        search.remove_class("on")
        self._table(self.shown).focus()

    def action_freeze(self) -> None:
        """Stop, so that it can be read; or go on."""
        self._frozen = not self._frozen
        self.take(self.figures)

    def _chosen(self, column: str) -> str:
        """A cell of the row under the cursor; empty when there is none."""
        table, columns = self._table(self.shown), _TABLES[self.shown]
        if not table.row_count or column not in columns:
            return ""
        return str(table.get_cell_at(Coordinate(table.cursor_row, columns.index(column))))

    def action_pause(self) -> None:
        """PAUSE the database of the row."""
        if database := self._chosen("database"):
            self.do(f"PAUSE {_quoted(database)}", f"Pause {database}? Its clients wait until it is resumed.")

    def action_resume(self) -> None:
        """RESUME it."""
        if database := self._chosen("database"):
            self.do(f"RESUME {_quoted(database)}", f"Resume {database}?")

    def action_kill(self) -> None:
        """Disconnect the client of the row."""
        client = self._chosen("id") or self._chosen("client")
        if client:
            self.do(f"KILL_CLIENT {client}", f"Disconnect client {client}? Its transaction is rolled back.")

    def action_reload(self) -> None:
        """RELOAD."""
        self.do("RELOAD", "Read the configuration file again?")

    def do(self, command: str, question: str) -> None:
        """Ask, and run the command."""

        def answered(yes: bool | None) -> None:
            if yes:
                self.carry_out(command)

        self.push_screen(Ask(question), answered)

    @work(thread=True, group="orders")
    def carry_out(self, command: str) -> None:
        """Run a command and say how it went. A PAUSE may take until the last transaction is over."""
        try:
            self._order(command)
        except QueryError as error:
            self.call_from_thread(self.notify, str(error), severity="error", title=command, markup=False)
        except TimeoutError:
            self.call_from_thread(self.notify, "under way: it ends when all servers are free", title=command)
        except (OSError, ClientError) as error:
            self.call_from_thread(self.end, f"the console has gone: {error}")
        else:
            self.call_from_thread(self.notify, "done", title=command)


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
