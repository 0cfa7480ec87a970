"""Tests of merging: the whole of a merge, its choice by scores, what it refuses."""
