"""What differs between a mesh's topics and their contracts, and the advice."""

from msgspec.structs import replace

from mesh.adapters.memory import MemoryCluster
from mesh.adapters.system import SystemClock
from mesh.core.topics import Topics
from mesh.services.topic_plan import plan, task_topic_config, topic_specs


async def test_the_log_says_how_many_partitions_a_mesh_began_with() -> None:
    topics, cluster = Topics(), MemoryCluster(SystemClock())
    wrong = {topics.inbox: 2, topics.results: 4}
    cluster.create_topics(
        [replace(one, partitions=wrong.get(one.name, one.partitions)) for one in topic_specs(topics, 3, [])]
    )
    broker = cluster.connect("operator")
    few, many = [str(one) for one in await plan(broker, topic_specs(topics, 3, []), topics=topics)]
    assert f"began with 3: stop its routers, then kafka-topics.sh --alter --topic {topics.inbox} --partitions 3" in few
    assert "began with 3: stop its routers and delete the topic" in many
    others = await plan(broker, topic_specs(topics, 4, []), topics=topics)
    told = {one.topic: one.fix for one in others if one.kind == "partitions_fixed"}
    assert set(told) == {topics.inbox, topics.keys, topics.log}
    assert all("set MESH_PARTITIONS=3" in fix for fix in told.values())


def test_an_agent_makes_its_topic_as_mesh_topics_apply_does() -> None:
    for replicas in (1, 3):
        [spec] = [one for one in topic_specs(Topics(), 1, ["a"], replicas=replicas) if one.name == "mesh.tasks.a"]
        assert task_topic_config(replicas) == spec.config
