from tests.edge_agent.test_admin import parts as agent_parts

__all__ = ["agent_parts"]
