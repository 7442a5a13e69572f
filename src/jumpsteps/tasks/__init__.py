"""Tasks: data, a metric and a way to show a sample."""

from jumpsteps.tasks import countdown
from jumpsteps.tasks.task import Task

__all__ = ["TASKS", "Task"]

TASKS: dict[str, Task] = {countdown.TASK.name: countdown.TASK}
