"""The state machine: plan → idea → factor → regularize → evaluate → feedback, and round again.

Plan begins a round for each direction. They go side by side up to evaluate, which waits for all of them.

Each node names in its return type where it may go, so LangGraph knows, checks and draws the edges by itself.
"""

from typing import cast

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph

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


def build() -> Machine:
    """Compile the state machine."""
    # The context is live objects, which have no schema to declare.
    builder: StateGraph[State, Workbench, State, State] = StateGraph(State)
    builder.add_node(observed(plan))
    builder.add_node(observed(idea))
    builder.add_node(observed(factor))
    builder.add_node(observed(regularize))
    builder.add_node(observed(evaluate))
    builder.add_node(observed(feedback))
    builder.add_edge(START, "plan")
    return builder.compile()


graph = build()


def mine(bench: Workbench) -> State:
    """Run the machine until its budget is spent or it is cancelled; return the final state."""
    budget = bench.run.budget
    steps_a_round = 6 + 2 * budget.attempts
    config = RunnableConfig(
        recursion_limit=budget.rounds * steps_a_round + 2,
        max_concurrency=budget.directions,  # fewer threads than that would keep calls waiting
    )
    return cast(State, graph.invoke(initial_state(), config, context=bench))
