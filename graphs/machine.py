"""The state machine: idea → factor → regularize → evaluate → feedback, and round again.

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
from graphs.nodes.regularize import regularize
from graphs.state import State, initial_state
from graphs.workbench import Workbench

Machine = CompiledStateGraph[State, Workbench, State, State]


def build() -> Machine:
    """Compile the state machine."""
    # The context is live objects, which have no schema to declare.
    builder: StateGraph[State, Workbench, State, State] = StateGraph(State)
    for node in (idea, factor, regularize, evaluate, feedback):
        builder.add_node(node)
    builder.add_edge(START, "idea")
    return builder.compile()


graph = build()


def mine(bench: Workbench) -> State:
    """Run the machine until its budget is spent or it is cancelled; return the final state."""
    budget = bench.run.budget
    steps_a_round = 4 + 2 * budget.attempts + 1
    config = RunnableConfig(recursion_limit=budget.rounds * steps_a_round + 1)
    return cast(State, graph.invoke(initial_state(), config, context=bench))
