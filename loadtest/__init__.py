"""Load tests of served models: Locust users in a process of their own. Importing this package imports no Locust."""

from core.load_results import LoadReport
from loadtest.errors import GeneratorError, PlanError
from loadtest.events import LoadEvent
from loadtest.launch import run_plan
from loadtest.plan import LoadPlan, Target
from loadtest.protocols import run_plans

__all__ = ["LoadEvent", "LoadPlan", "LoadReport", "Target", "run_plan", "run_plans", "GeneratorError", "PlanError"]
