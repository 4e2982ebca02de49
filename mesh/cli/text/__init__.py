"""Events, workflows and limits as text for people. Rendering alone: nothing here reads a broker."""
