"""File batches of a vector store: create, get, cancel, list files."""

from fastapi import APIRouter

router = APIRouter()
