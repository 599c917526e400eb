"""The state machine: plan → idea → factor → regularize → evaluate → feedback, and round again.

Plan begins a round for each direction. They go side by side up to evaluate, which waits for all of them.

Each node names in its return type where it may go, so LangGraph knows, checks and draws the edges by itself.
"""

from typing import cast

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from factors.errors import AlphaAgentError
from graphs.checkpoints import FencedSaver, Saver, trim
from graphs.nodes.evaluate import evaluate
from graphs.nodes.factor import factor
from graphs.nodes.feedback import feedback
from graphs.nodes.idea import idea
from graphs.nodes.plan import plan
from graphs.nodes.regularize import regularize
from graphs.observation import observed
from graphs.state import State, initial_state
from graphs.workbench import Workbench

Machine = CompiledStateGraph[State, Workbench, State, State]


class SuspendedError(AlphaAgentError):
    """The process is about to end: the run stays where it is, for another process to go on with."""


def build(saver: Saver | None = None) -> Machine:
    """Compile the state machine; with a saver it keeps a checkpoint after each step."""
    # The context is live objects, which have no schema to declare.
    builder: StateGraph[State, Workbench, State, State] = StateGraph(State)
    builder.add_node(observed(plan))
    builder.add_node(observed(idea))
    builder.add_node(observed(factor))
    builder.add_node(observed(regularize))
    builder.add_node(observed(evaluate))
    builder.add_node(observed(feedback))
    builder.add_edge(START, "plan")
    return builder.compile(checkpointer=saver)


graph = build()


def mine(bench: Workbench, saver: Saver | None = None) -> State:
    """Run the machine until its budget is spent or it is cancelled; return the final state.

    With a saver a run that was cut off goes on from its last checkpoint.

    Raises:
        SuspendedError: the process is about to end.
        DataError: the checkpoint cannot be read.
        FencedError: the run is another process's meanwhile.
    """
    budget = bench.run.budget
    steps_a_round = 6 + 2 * budget.attempts
    config = RunnableConfig(
        recursion_limit=budget.rounds * steps_a_round + 2,
        max_concurrency=budget.directions,  # fewer threads than that would keep calls waiting
        configurable={"thread_id": bench.run.id},
    )
    if saver is None:
        return cast(State, graph.invoke(initial_state(), config, context=bench))
    machine = build(FencedSaver(saver, bench.journal.check))
    reached = machine.get_state(config)
    if reached.values and not reached.tasks:
        return cast(State, reached.values)
    given = None if reached.values or reached.tasks else initial_state()
    for _ in machine.stream(given, config, context=bench, durability="sync"):
        trim(saver, bench.run.id)
        bench.cancelled()
    return cast(State, machine.get_state(config).values)
