"""Takes orders & "ships" them"""
