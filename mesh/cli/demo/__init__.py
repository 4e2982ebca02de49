"""`mesh demo`: real events, a router, four agents and a person, on a mesh of this run's own.

Owns nothing that the mesh needs: it runs `mesh dev`, asks with the card and the keys of `mesh
approvals answer`, publishes and answers through the same topics, and looks on through the read
model.

    command    the command: from its options to its exit status
    folder     the run's folder and environment; older runs are removed
    script     the deliveries, by the manifest of `agents/issue_triage/samples`
    processes  router and agents, by `mesh dev`
    conductor  the course of a run: what is sent, answered and waited for, and when
    view       what there is to see at one moment
    news       what happens, in lines
    screen     where that is shown: lines, and the state below them
    checks     whether everything ended as it should
    report     what the ordinary commands say of the run, and what to try next
"""
