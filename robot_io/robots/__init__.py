"""Real robots and cameras, each importing its driver only when it is made; and a data set played back as a robot.

What has been tried on what: everything here runs in tests against small stand-ins for the drivers (a simulated UR, a class that follows
LeRobot's interface, a video file for a camera). None of it has touched hardware from this project's own hands yet.
"""
