"""What does the house say over HTTP?"""
