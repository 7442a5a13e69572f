"""Tasks: a kind of data with its metric and its way to show a sample."""

from jumpsteps.tasks import countdown, images, piano
from jumpsteps.tasks.task import Task

__all__ = ["TASKS", "Task"]

TASKS: dict[str, Task] = {task.name: task for task in (countdown.TASK, piano.TASK, images.TASK)}
