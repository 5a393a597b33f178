"""Uploads in parts: create, add parts, complete, cancel."""

from fastapi import APIRouter

router = APIRouter()
