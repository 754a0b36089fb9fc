"""Recipes: one file per trained method, found by name."""

from strays.recipes.base import RECIPES, Recipe, build_recipe, register_recipe

__all__ = ["RECIPES", "Recipe", "build_recipe", "register_recipe"]
