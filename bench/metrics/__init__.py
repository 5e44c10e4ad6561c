"""What is said about images beyond SSIM, PSNR and MSE: one idea a file, plain arrays in.

Image by image against the original's own: :mod:`similarity` (MS-SSIM), :mod:`perceptual` (LPIPS),
:mod:`defects`. Of all images together: :mod:`distribution` (FID, KID, precision, recall, density,
coverage), :mod:`diversity`, :mod:`self_similarity`; they look at images through :mod:`features` and
may compare with :mod:`real` ones.
"""
